//! Log lines on standard error: which, and in what form. Standard output belongs to the command's own answer.
//!
//! No secret and no payload is ever a field of a log line; this module cannot check that, the callers answer for it.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
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
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        LogFormat::Text => Box::new(lines.with_ansi(colour).finish()),
        LogFormat::Json => {
            Box::new(lines.json().flatten_event(true).with_current_span(true).with_span_list(false).finish())
        }
    }
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
        });
        let bytes = lines.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_is_one_object_per_line_with_the_fields_at_the_top() {
        let text = logged("info", LogFormat::Json);
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 1);
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
        assert_eq!(logged("debug", LogFormat::Text).lines().count(), 2);
    }
}
