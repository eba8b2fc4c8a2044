//! `holdfast debug-session`: who debugs what.

use anyhow::Result;
use clap::{Subcommand, ValueEnum};
use proto::debug::v1::debug_session::State as ApiState;
use proto::debug::v1::{
    CloseDebugSessionRequest, DebugSession, DebugSessionEvent, EndReason, GetDebugSessionRequest,
    ListDebugSessionEventsRequest, ListDebugSessionsRequest, Role, Traffic,
};

use crate::args::{Global, Page};
use crate::command::{PAGE_SIZE, collect};
use crate::output;
use crate::session::Session;

const SESSION: &str = "holdfast.debug.v1.DebugSession";
const EVENT: &str = "holdfast.debug.v1.DebugSessionEvent";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List debug sessions, newest first.
    #[command(after_help = "Example:\n  holdfast debug-session list --state open")]
    List {
        /// Only this device's.
        #[arg(long, value_name = "DEVICE")]
        device: Option<String>,
        /// Only those in this state.
        #[arg(long, value_enum)]
        state: Option<State>,
        #[command(flatten)]
        page: Page,
    },
    /// Show one debug session.
    Show { session: String },
    /// End a debug session, your own or somebody else's.
    Close { session: String },
    /// What happened to debug sessions, newest first: who made them, attached or was refused, and how much was said.
    Events {
        /// Only of this session.
        session: Option<String>,
        #[command(flatten)]
        page: Page,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum State {
    Open,
    Closed,
}

pub(crate) async fn run(global: &Global, command: &Command) -> Result<()> {
    let session = Session::open(global).await?;
    let mut client = session.debug_sessions().await?;
    match command {
        Command::List { device, state, page } => {
            let device = device.as_deref().map(|id| session.name("devices", id)).unwrap_or_default();
            let state = match state {
                None => ApiState::Unspecified,
                Some(State::Open) => ApiState::Open,
                Some(State::Closed) => ApiState::Closed,
            };
            let all = collect(page.limit, async |page_token| {
                let request = ListDebugSessionsRequest {
                    parent: session.tenant(),
                    page_size: PAGE_SIZE,
                    page_token,
                    device: device.clone(),
                    state: state.into(),
                };
                let reply = client.list_debug_sessions(request).await?.into_inner();
                Ok((reply.debug_sessions, reply.next_page_token))
            });
            list(global, &all.await?)
        }
        Command::Show { session: id } => {
            let request = GetDebugSessionRequest { name: session.name("debugSessions", id) };
            show(global, &client.get_debug_session(request).await?.into_inner())
        }
        Command::Close { session: id } => {
            let request =
                CloseDebugSessionRequest { name: session.name("debugSessions", id), ..Default::default() };
            show(global, &client.close_debug_session(request).await?.into_inner())
        }
        Command::Events { session: id, page } => {
            let debug_session = id.as_deref().map(|id| session.name("debugSessions", id)).unwrap_or_default();
            let all = collect(page.limit, async |page_token| {
                let request = ListDebugSessionEventsRequest {
                    parent: session.tenant(),
                    page_size: PAGE_SIZE,
                    page_token,
                    debug_session: debug_session.clone(),
                    device: String::new(),
                };
                let reply = client.list_debug_session_events(request).await?.into_inner();
                Ok((reply.events, reply.next_page_token))
            });
            events(global, &all.await?)
        }
    }
}

/// `END_REASON_IDLE` as `idle`; nothing when there is none.
fn word(name: &str, prefix: &str) -> String {
    match name.trim_start_matches(prefix) {
        "UNSPECIFIED" => String::new(),
        word => word.to_lowercase(),
    }
}

fn role(role: Role) -> String {
    word(role.as_str_name(), "ROLE_")
}

fn reason(reason: EndReason) -> String {
    word(reason.as_str_name(), "END_REASON_")
}

fn show(global: &Global, session: &DebugSession) -> Result<()> {
    if global.json {
        return output::json(SESSION, session);
    }
    output::fields(&[
        ("name", session.name.clone()),
        ("device", session.device.clone()),
        ("role", role(session.role())),
        ("state", word(session.state().as_str_name(), "STATE_")),
        ("end reason", reason(session.end_reason())),
        ("creator", session.creator.clone()),
        ("created", output::time(session.create_time.as_ref())),
        ("expires", output::time(session.expire_time.as_ref())),
        ("last frame", output::time(session.last_frame_time.as_ref())),
        ("ended", output::time(session.end_time.as_ref())),
        ("attached", yes(session.attached)),
        ("traffic", traffic(session.traffic.as_ref())),
    ])
}

fn list(global: &Global, sessions: &[DebugSession]) -> Result<()> {
    if global.json {
        return sessions.iter().try_for_each(|session| output::json(SESSION, session));
    }
    let rows: Vec<_> = sessions
        .iter()
        .map(|s| {
            vec![
                output::id(&s.name).to_owned(),
                output::id(&s.device).to_owned(),
                role(s.role()),
                output::id(&s.creator).to_owned(),
                word(s.state().as_str_name(), "STATE_"),
                reason(s.end_reason()),
                yes(s.attached),
                output::time(s.create_time.as_ref()),
            ]
        })
        .collect();
    output::table(&["ID", "DEVICE", "ROLE", "WHO", "STATE", "REASON", "ATTACHED", "CREATED"], &rows)
}

fn events(global: &Global, events: &[DebugSessionEvent]) -> Result<()> {
    if global.json {
        return events.iter().try_for_each(|event| output::json(EVENT, event));
    }
    let rows: Vec<_> = events
        .iter()
        .map(|e| {
            let why = if e.denial.is_empty() { reason(e.reason()) } else { e.denial.clone() };
            vec![
                output::time(e.time.as_ref()),
                output::id(&e.debug_session).to_owned(),
                word(e.kind().as_str_name(), "KIND_"),
                role(e.role()),
                output::id(&e.subject).to_owned(),
                why,
                traffic(e.traffic.as_ref()),
            ]
        })
        .collect();
    output::table(&["TIME", "SESSION", "WHAT", "ROLE", "WHO", "WHY", "TRAFFIC"], &rows)
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

/// Nothing when nothing went through.
fn traffic(traffic: Option<&Traffic>) -> String {
    match traffic {
        Some(t) if t.frames_up + t.frames_down > 0 => {
            format!(
                "{} frames, {} B up; {} frames, {} B down",
                t.frames_up, t.bytes_up, t.frames_down, t.bytes_down
            )
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_api_names_is_shown_in_words() {
        assert_eq!(reason(EndReason::DeviceBusy), "device_busy");
        assert_eq!(reason(EndReason::Unspecified), "");
        assert_eq!((role(Role::Watcher), role(Role::Unspecified)), ("watcher".into(), String::new()));
        assert_eq!(word(ApiState::Open.as_str_name(), "STATE_"), "open");
        let some = Traffic { frames_up: 1, bytes_up: 2, frames_down: 3, bytes_down: 4 };
        assert_eq!(traffic(Some(&some)), "1 frames, 2 B up; 3 frames, 4 B down");
        assert_eq!(traffic(Some(&Traffic::default())), "");
    }
}
