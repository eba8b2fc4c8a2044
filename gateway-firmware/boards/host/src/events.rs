//! What the board shows of itself: one JSON line for everything that happens (`--json`), the application's log lines
//! (`--log-echo`).

use std::io::Write as _;
use std::time::Instant;

use gateway_core::device::Notice;
use gateway_core::gateway::Happening;
use serde_json::{Value, json};
use wire::DeviceId;

/// Where events go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Events {
    pub(crate) json: bool,
    pub(crate) log_echo: bool,
    /// What times are counted from.
    pub(crate) since: Instant,
}

impl Events {
    /// The process is up; `devices` will be started.
    pub(crate) fn started(&self, devices: u32) {
        self.line(json!({"event": "started", "devices": devices}));
    }

    pub(crate) fn tell(&self, hardware_id: &str, device: Option<DeviceId>, happening: Happening) {
        if !self.json {
            return;
        }
        let mut line = describe(happening);
        line["hardware_id"] = json!(hardware_id);
        line["device"] = json!(device.map(|device| device.to_string()));
        self.line(line);
    }

    pub(crate) fn app_log(&self, hardware_id: &str, text: &str) {
        if self.log_echo && self.json {
            self.line(json!({"event": "log", "hardware_id": hardware_id, "text": text}));
        } else if self.log_echo {
            print(format_args!("{hardware_id} {text}"));
        }
    }

    fn line(&self, mut line: Value) {
        if self.json {
            line["t_us"] = json!(self.since.elapsed().as_micros() as u64);
            print(format_args!("{line}"));
        }
    }
}

/// A reader that went away is no reason to stop being a device.
fn print(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

fn describe(happening: Happening) -> Value {
    match happening {
        Happening::Enrolled(device) => json!({"event": "enrolled", "device": device.to_string()}),
        Happening::EnrollPending { retry_after_s } => {
            json!({"event": "pending", "retry_after_s": retry_after_s})
        }
        Happening::EnrollRefused(reason) => {
            json!({"event": "refused", "reason": snake(&format!("{reason:?}"))})
        }
        Happening::Connected => json!({"event": "connected"}),
        Happening::Disconnected(end) => json!({"event": "disconnected", "reason": format!("{end:?}")}),
        Happening::Device(Notice::Update(state)) => {
            json!({"event": "update", "state": snake(&format!("{state:?}"))})
        }
        Happening::Device(notice) => json!({"event": "notice", "notice": format!("{notice:?}")}),
        Happening::Result(outcome, reason) => json!({
            "event": "result",
            "outcome": snake(&format!("{outcome:?}")),
            "reason": snake(&format!("{reason:?}")),
        }),
    }
}

/// `NeverHealthy` as `never_healthy`.
fn snake(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_core::update::Outcome;
    use wire::msg::UpdateReason;

    #[test]
    fn reasons_have_the_names_of_the_public_api() {
        let line = describe(Happening::Result(Outcome::Reverted, UpdateReason::NeverHealthy));
        assert_eq!(line, json!({"event": "result", "outcome": "reverted", "reason": "never_healthy"}));
    }
}
