//! The two forms in which metrics are read: OpenMetrics 1.0, which Prometheus asks for by name, and its older text
//! format, which everything else reads. What is asked for is answered; who asks for nothing gets the older one.

/// A form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format 0.0.4.
    Text,
}

impl Form {
    /// Returns the form that fits a request's `Accept` best.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        let (mut open, mut text) = (0.0_f32, 0.0_f32);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0);
            match kind.as_str() {
                "application/openmetrics-text" => open = open.max(quality),
                "text/plain" => text = text.max(quality),
                _ => {}
            }
        }
        if open > 0.0 && open >= text { Self::OpenMetrics } else { Self::Text }
    }

    /// The content type of an answer.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Returns metrics, written as OpenMetrics, in this form.
    #[must_use]
    pub fn of(self, open_metrics: String) -> String {
        match self {
            Self::OpenMetrics => open_metrics,
            Self::Text => text(&open_metrics),
        }
    }
}

/// The same in the older format: it names counters with their ending, knows no units, and takes facts for gauges.
fn text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(about) = line.strip_prefix("# HELP ") {
            help = about.split_once(' ').map(|(_, about)| about);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let (ending, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            if let Some(help) = help.take() {
                text.push_str(&format!("# HELP {name}{ending} {help}\n"));
            }
            text.push_str(&format!("# TYPE {name}{ending} {kind}\n"));
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_openmetrics_gets_it_and_anyone_else_the_text_format() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;\
                          q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, form) in [
            (prometheus, Form::OpenMetrics),
            ("Application/OpenMetrics-Text", Form::OpenMetrics),
            ("text/plain;version=0.0.4;q=0.5,application/openmetrics-text;q=0.4", Form::Text),
            ("application/openmetrics-text;q=0", Form::Text),
            ("text/html, */*;q=0.1", Form::Text),
            ("*/*", Form::Text),
            ("", Form::Text),
            (";;,q=,application/openmetrics-text; q=x", Form::OpenMetrics),
        ] {
            assert_eq!(Form::accepted(accept), form, "{accept}");
        }
    }

    #[test]
    fn the_text_format_names_each_family_as_its_samples() {
        let open = "# HELP a requests.\n# TYPE a counter\na_total{x=\"1\"} 3\n# HELP b_seconds how long.\n\
                    # TYPE b_seconds histogram\n# UNIT b_seconds seconds\nb_seconds_count 1\n# HELP c which.\n\
                    # TYPE c info\nc_info{v=\"1\"} 1\n# TYPE d unknown\nd 1\n# EOF\n";
        let text = "# HELP a_total requests.\n# TYPE a_total counter\na_total{x=\"1\"} 3\n# HELP b_seconds how long.\n\
                    # TYPE b_seconds histogram\nb_seconds_count 1\n# HELP c_info which.\n# TYPE c_info gauge\n\
                    c_info{v=\"1\"} 1\n# TYPE d untyped\nd 1\n";
        assert_eq!(Form::Text.of(open.to_owned()), text);
        assert_eq!(Form::OpenMetrics.of(open.to_owned()), open);
    }
}
