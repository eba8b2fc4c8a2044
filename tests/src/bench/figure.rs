//! One figure a line on standard output, as `cargo dev bench` reads them.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark is run for")]

use serde_json::json;

/// Prints figures of one benchmark.
#[derive(Debug, Clone, Copy)]
pub struct Figures(pub &'static str);

impl Figures {
    /// A figure that stands alone.
    pub fn alone(&self, metric: &str, unit: &str, ours: f64) {
        println!("{}", json!({"bench": self.0, "metric": metric, "unit": unit, "ours": round(ours)}));
    }

    /// A figure beside one of a peer, measured in the same run.
    pub fn beside(&self, metric: &str, unit: &str, ours: f64, peer: f64, peer_name: &str) {
        let line = json!({
            "bench": self.0, "metric": metric, "unit": unit, "ours": round(ours),
            "peer": round(peer), "peer_name": peer_name, "ratio": round(ours / peer),
        });
        println!("{line}");
    }
}

/// Four digits behind the point: more was not measured.
fn round(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}
