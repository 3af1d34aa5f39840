//! The two spellings of `/metrics` (O1): OpenMetrics for who asks for it, the older text format for all others.

use std::fmt::Write as _;

use http::HeaderMap;
use http::header::ACCEPT;

/// How a scraper wants its metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    OpenMetrics,
    Text,
}

impl Exposition {
    /// What a request asks for by `Accept`.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let asks = accepted.any(|value| value.contains("application/openmetrics-text"));
        if asks { Self::OpenMetrics } else { Self::Text }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Writes OpenMetrics in this spelling: the text format names a counter with its `_total`, and knows no `info`.
    pub fn spell(self, openmetrics: String) -> String {
        if self == Self::OpenMetrics {
            return openmetrics;
        }
        let (mut text, mut help) = (String::with_capacity(openmetrics.len()), None);
        for line in openmetrics.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                help = rest.split_once(' ').map(|(_, words)| words);
            } else if let Some((name, kind)) =
                line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
            {
                let (end, kind) = match kind {
                    "counter" => ("_total", kind),
                    "info" => ("_info", "gauge"),
                    _ => ("", kind),
                };
                let words = help.take().unwrap_or_default();
                // Writing to a string cannot fail.
                let _written = write!(text, "# HELP {name}{end} {words}\n# TYPE {name}{end} {kind}\n");
            } else if !line.starts_with('#') {
                text.push_str(line);
                text.push('\n');
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // O1
    #[test]
    fn the_text_format_has_names_and_kinds_of_its_own() {
        let openmetrics = "# HELP a Requests.\n# TYPE a counter\na_total{x=\"# y\"} 1\n# HELP b Build.\n# TYPE b info\n\
            b_info{v=\"1\"} 1\n# HELP c_seconds Time.\n# TYPE c_seconds gauge\n# UNIT c_seconds seconds\nc_seconds 2\n# EOF\n";
        let text = "# HELP a_total Requests.\n# TYPE a_total counter\na_total{x=\"# y\"} 1\n# HELP b_info Build.\n\
            # TYPE b_info gauge\nb_info{v=\"1\"} 1\n# HELP c_seconds Time.\n# TYPE c_seconds gauge\nc_seconds 2\n";
        assert_eq!(Exposition::Text.spell(openmetrics.to_owned()), text);
        assert_eq!(Exposition::OpenMetrics.spell(openmetrics.to_owned()), openmetrics);
    }
}
