//! Prometheus' text format, version 0.0.4.
//!
//! Written with the exporter crate's formatting, not through its recorder: that one takes no fractional counters (seconds),
//! no histograms that were counted elsewhere, and keeps the gauges of pools that are gone.

use metrics::{Key, Label};
use metrics_exporter_prometheus::LabelSet;
use metrics_exporter_prometheus::formatting::{write_help_line, write_metric_line, write_type_line};

use super::{BOUNDS_US, Observed};

/// Names and values of one series.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
}

/// What one scrape is answered with.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// A family's head; its series follow.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        self.head(name, kind, help);
        Family { name, text: &mut self.0 }
    }

    /// The same for durations in seconds.
    pub fn histogram(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.head(name, "histogram", help);
        Family { name, text: &mut self.0 }
    }

    pub fn into_text(self) -> String {
        self.0
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        write_help_line(&mut self.0, name, None, None, help);
        write_type_line(&mut self.0, name, None, None, kind);
    }
}

#[derive(Debug)]
pub struct Family<'a> {
    name: &'static str,
    text: &'a mut String,
}

impl Family<'_> {
    pub fn series(&mut self, labels: Labels<'_>, value: impl std::fmt::Display) {
        self.line(None, &label_set(labels), None, value);
    }

    pub fn observed(&mut self, labels: Labels<'_>, observed: &Observed) {
        let labels = label_set(labels);
        for (bound, count) in BOUNDS_US.iter().zip(observed.up_to) {
            self.line(Some("bucket"), &labels, Some((*bound as f64 / 1e6).to_string()), count);
        }
        self.line(Some("bucket"), &labels, Some("+Inf".to_owned()), observed.count);
        self.line(Some("sum"), &labels, None, observed.sum_seconds);
        self.line(Some("count"), &labels, None, observed.count);
    }

    fn line(&mut self, suffix: Option<&'static str>, labels: &LabelSet, le: Option<String>, value: impl std::fmt::Display) {
        write_metric_line(self.text, self.name, suffix, labels, le.map(|le| ("le", le)), value, None);
    }
}

fn label_set(labels: Labels<'_>) -> LabelSet {
    let labels: Vec<_> = labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect();
    LabelSet::from_key_and_global(&Key::from_parts("", labels), &Default::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Histogram;

    #[test]
    fn names_labels_and_values_are_written_as_prometheus_reads_them() {
        let mut page = Page::default();
        let mut family = page.family("sidepool_x_total", Kind::Counter, "What it is.");
        family.series(&[("user", "a\"b\\c\nd")], 3);
        family.series(&[], 1.5);
        let histogram = Histogram::default();
        histogram.observe_ns(1_000_000);
        page.histogram("sidepool_y_seconds", "How long.").observed(&[("mode", "session")], &histogram.observed());
        let text = page.into_text();
        assert!(text.starts_with("# HELP sidepool_x_total What it is.\n# TYPE sidepool_x_total counter\n"), "{text}");
        assert!(text.contains("sidepool_x_total{user=\"a\\\"b\\\\c\\nd\"} 3\n"), "{text}");
        assert!(text.contains("sidepool_x_total 1.5\n"), "{text}");
        assert!(text.contains("# TYPE sidepool_y_seconds histogram\n"), "{text}");
        assert!(text.contains("sidepool_y_seconds_bucket{mode=\"session\",le=\"0.0005\"} 0\n"), "{text}");
        assert!(text.contains("sidepool_y_seconds_bucket{mode=\"session\",le=\"0.001\"} 1\n"), "{text}");
        assert!(text.contains("sidepool_y_seconds_bucket{mode=\"session\",le=\"+Inf\"} 1\n"), "{text}");
        assert!(text.contains("sidepool_y_seconds_sum{mode=\"session\"} 0.001\n"), "{text}");
        assert!(text.contains("sidepool_y_seconds_count{mode=\"session\"} 1\n"), "{text}");
    }
}
