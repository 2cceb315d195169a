//! What one run of one system found, as named figures.

use fluxrelay::load::{Backlog, Crash, Latency, Quantiles, Spent, Throughput};

/// A figure: its name in words, its value, its unit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
}

/// Figures of one run, in the order of the table.
#[derive(Debug, Default)]
pub(crate) struct Figures(pub(crate) Vec<Figure>);

impl Figures {
    /// The value of a figure.
    pub(crate) fn value(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|figure| figure.name == name).map(|figure| figure.value)
    }

    /// Whether there is none of something.
    pub(crate) fn is_without(&self, name: &str) -> bool {
        self.value(name).is_none_or(|value| value == 0.0)
    }

    fn add(&mut self, name: &'static str, unit: &'static str, value: f64) {
        self.0.push(Figure { name, unit, value });
    }

    fn times(&mut self, names: [&'static str; 3], times: Quantiles) {
        for (name, time) in names.into_iter().zip([times.p50, times.p99, times.p999]) {
            self.add(name, "ms", time.as_secs_f64() * 1000.0);
        }
    }

    fn spent(&mut self, spent: &Spent) {
        if let Some(system) = spent.system {
            self.add("system cpu", "cores", system.cores);
            self.add("system memory", "MiB", system.rss as f64 / 1048576.0);
        }
        if let Some(cores) = spent.own_cores {
            self.add("load generator cpu", "cores", cores);
        }
    }

    fn faults(&mut self, refused: u64, missing: u64, twice: u64) {
        self.add("publishes refused", "", refused as f64);
        self.add("missing", "commands", missing as f64);
        self.add("delivered twice", "commands", twice as f64);
    }
}

impl From<&Throughput> for Figures {
    fn from(found: &Throughput) -> Figures {
        let mut figures = Figures::default();
        figures.add("completed", "commands/s", found.per_second);
        figures.spent(&found.spent);
        figures.faults(found.refused, found.missing, found.twice);
        figures.add("not confirmed", "commands", found.unconfirmed as f64);
        figures
    }
}

impl From<&Latency> for Figures {
    fn from(found: &Latency) -> Figures {
        let mut figures = Figures::default();
        figures.times(["receipt p50", "receipt p99", "receipt p99.9"], found.receipt);
        figures.times(["ack p50", "ack p99", "ack p99.9"], found.ack);
        figures.spent(&found.spent);
        figures.faults(found.refused, found.missing, found.twice);
        figures
    }
}

impl From<&Backlog> for Figures {
    fn from(found: &Backlog) -> Figures {
        let mut figures = Figures::default();
        figures.add("accepted", "commands/s", found.accepted);
        for (name, bytes) in [
            ("memory", found.memory),
            ("memory at rest", found.memory_at_rest),
            ("disk", found.disk),
            ("disk at rest", found.disk_at_rest),
            ("memory after restart", found.memory_after),
        ] {
            if let Some(bytes) = bytes {
                figures.add(name, "bytes/command", bytes);
            }
        }
        figures.spent(&found.spent);
        figures.add("ready after kill -9", "s", found.ready.as_secs_f64());
        figures.add("drained", "commands/s", found.drained);
        figures.add("drained, logins included", "commands/s", found.drained_with_logins);
        figures.faults(found.refused, found.missing, found.twice);
        figures
    }
}

impl From<&Crash> for Figures {
    fn from(found: &Crash) -> Figures {
        let mut figures = Figures::default();
        let ready = found.ready.iter().map(std::time::Duration::as_secs_f64);
        figures.add("kills", "", found.ready.len() as f64);
        figures.add("acknowledged", "commands", found.acknowledged as f64);
        figures.add("publishes without an answer", "commands", found.unanswered as f64);
        figures.add("missing", "commands", found.missing as f64);
        figures.add("confirmed and delivered again", "commands", found.again_confirmed as f64);
        figures.add("unconfirmed and delivered again", "commands", found.again_unconfirmed as f64);
        figures.add("ready after kill -9, longest", "s", ready.fold(0.0, f64::max));
        figures
    }
}
