//! Log lines on standard error: which, and in what form. Standard output belongs to the command's own answer.
//!
//! No secret and no payload is ever a field of a log line; this module cannot check that, the callers answer for it. The
//! libraries' own `trace` and `debug` lines show what was sent, tokens among it, and are left out whatever the filter says.

use std::io::{self, IsTerminal};

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogFormat;

/// Starts logging for the rest of the process; does nothing when it was started before.
///
/// `filter` is a checked setting; one that cannot be read logs `info`.
pub fn start(filter: &str, format: LogFormat) {
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // Somebody who embeds the broker may have set up logging already.
    let _ = subscriber(filter, format, colour, io::stderr).try_init();
}

fn subscriber<W>(
    filter: &str,
    format: LogFormat,
    colour: bool,
    writer: W,
) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Text => Box::new(lines.with_ansi(colour)),
        LogFormat::Json => {
            Box::new(lines.json().flatten_event(true).with_current_span(true).with_span_list(false))
        }
    };
    Box::new(tracing_subscriber::registry().with(lines).with(filter).with(filter_fn(may_be_shown)))
}

/// Whether lines like this one may hold no secret: ours, and what libraries say at `info` and above.
fn may_be_shown(line: &Metadata<'_>) -> bool {
    let ours = line.target().split("::").next() == Some(env!("CARGO_CRATE_NAME"));
    ours || *line.level() <= Level::INFO
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing::subscriber::with_default;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str, format: LogFormat) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        with_default(subscriber(filter, format, false, move || writer.clone()), || {
            tracing::info!(server = "srv_1", "registered");
            tracing::debug!("not at this level");
            tracing::trace!("ours");
            tracing::trace!(target: "tungstenite::protocol", "srv_1.secret");
            tracing::trace!(target: "fluxrelayer", "srv_1.secret");
            tracing::info!(target: "quinn", "library");
            tracing::debug!(target: "quinn", "srv_1.secret");
        });
        let bytes = lines.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_is_one_object_per_line_with_the_fields_at_the_top() {
        let text = logged("info", LogFormat::Json);
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "ours, and what a library says at this level");
        assert_eq!(
            (&lines[0]["level"], &lines[0]["server"], &lines[0]["message"]),
            (&"INFO".into(), &"srv_1".into(), &"registered".into())
        );
    }

    #[test]
    fn the_filter_decides_and_text_has_no_colour_codes() {
        let text = logged("info", LogFormat::Text);
        assert!(
            text.contains("registered") && !text.contains("not at this level") && !text.contains('\x1b'),
            "{text}"
        );
        assert_eq!(logged("fluxrelay=off", LogFormat::Text), "");
        assert_eq!(logged("debug", LogFormat::Text).lines().count(), 3);
    }

    #[test]
    fn details_of_libraries_are_never_shown() {
        for filter in
            ["trace", "trace,tungstenite=trace", "tungstenite::protocol=trace,fluxrelay=trace,quinn=debug"]
        {
            for format in [LogFormat::Text, LogFormat::Json] {
                let text = logged(filter, format);
                assert!(text.contains("ours") && text.contains("library"), "{filter}: {text}");
                assert!(!text.contains("secret"), "{filter}: {text}");
            }
        }
    }
}
