//! The one rule for names of processors and nodes. Names are used in HTTP paths, on command lines, in lists and in
//! tables, so a name must be the same word in all of them.
//!
//! The rule is for new names. Existing names remain valid, whatever rule was in force when they were given.

use core::fmt;

/// Why a text is not a valid name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It is empty.
    Empty,
    /// It is `.` or `..`, which denote folders: paths drop them.
    Dots,
    /// It begins with a hyphen, as flags do.
    Hyphen,
    /// It contains this character.
    Character(char),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty"),
            Self::Dots => f.write_str("is `.` or `..`, which URL paths cannot contain"),
            Self::Hyphen => f.write_str("begins with a hyphen, as flags do"),
            Self::Character(c) => write!(f, "contains the character {c:?}"),
        }?;
        f.write_str(": a name is one word without spaces, control characters, slashes and commas")
    }
}

impl core::error::Error for Error {}

/// Checks that `name` can be given to a processor or a node. How long it may be is a limit of its own.
///
/// # Errors
///
/// What is wrong with it.
///
/// ```
/// # use evener_core::name;
/// assert_eq!(name::check("order-totals.v2"), Ok(()));
/// assert_eq!(name::check(".."), Err(name::Error::Dots));
/// assert_eq!(name::check("a/b"), Err(name::Error::Character('/')));
/// ```
pub fn check(name: &str) -> Result<(), Error> {
    let unfit = |c: &char| c.is_control() || c.is_whitespace() || matches!(c, '/' | '\\' | ',') || is_invisible(*c);
    match name {
        "" => Err(Error::Empty),
        "." | ".." => Err(Error::Dots),
        _ if name.starts_with('-') => Err(Error::Hyphen),
        _ => name.chars().find(unfit).map_or(Ok(()), |c| Err(Error::Character(c))),
    }
}

/// Returns whether a character is invisible or reverses the text around it: two names that look the same would differ.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn a_name_is_one_word() {
        for name in
            ["p", "order-totals.v2", "...", ".p", "p.", "größe", "a:b", "100%", "a?b#c&d=e+f", "%2e%2e", "~", "'"]
        {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        for (name, error) in [
            ("", Error::Empty),
            (".", Error::Dots),
            ("..", Error::Dots),
            ("-p", Error::Hyphen),
            ("a/b", Error::Character('/')),
            ("a\\b", Error::Character('\\')),
            ("a,b", Error::Character(',')),
            ("a b", Error::Character(' ')),
            ("a\u{a0}b", Error::Character('\u{a0}')),
            ("a\0", Error::Character('\0')),
            ("a\u{85}", Error::Character('\u{85}')),
            ("a\u{202e}b", Error::Character('\u{202e}')),
        ] {
            assert_eq!(check(name), Err(error), "{name:?}");
        }
        assert!(check("a\0").unwrap_err().to_string().starts_with("contains the character '\\0': a name is one word"));
    }
}
