//! Numbers out of a broker's `/metrics`.

use crate::cli::exit::CliError;
use crate::cli::rest::Rest;

/// One scrape.
pub(super) struct Metrics(String);

impl Metrics {
    /// Asks the broker. Blocks.
    pub(super) fn read(rest: &Rest) -> Result<Metrics, CliError> {
        rest.text("/metrics").map(Metrics)
    }

    /// The value of a metric without labels, such as `fluxrelay_logins_hashed_total`.
    pub(super) fn value(&self, name: &str) -> Result<f64, CliError> {
        let of_line = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        let found = self.0.lines().find_map(of_line);
        found.ok_or_else(|| CliError::unexpected(format!("the broker's /metrics have no {name}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_whole_name() {
        let metrics = Metrics("# TYPE a counter\na_total_more 1\na_total 2.5\na{x=\"y\"} 3\n".into());
        assert_eq!(metrics.value("a_total").ok(), Some(2.5));
        assert!(metrics.value("a").is_err() && metrics.value("total").is_err());
    }
}
