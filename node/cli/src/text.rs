//! Text that has to fit a width.

/// Truncates a text to `width` characters, with a mark at the end.
pub(crate) fn truncate(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        None => text.to_owned(),
        Some(_) => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
    }
}
