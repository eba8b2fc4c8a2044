//! Domain to proto.

use proto::debug::v1::attach_debug_session_response::Message;
use proto::debug::v1::debug_session::State;
use proto::debug::v1::debug_session_event::Kind as ApiKind;
use proto::debug::v1::{
    self as api, AttachDebugSessionResponse, DebugFrame, DebugSession, DebugSessionEvent,
};
use proto::name::{DebugSessionName, DeviceName};
use wire::TenantId;

use crate::app::sessions::{Event, EventKind, Stored};
use crate::model::session::Told;
use crate::model::{EndReason, Role, Traffic};

pub(super) fn session(tenant: TenantId, stored: Stored) -> DebugSession {
    let state = if stored.ended.is_some() { State::Closed } else { State::Open };
    DebugSession {
        name: DebugSessionName::new(tenant, stored.id).to_string(),
        device: DeviceName::new(tenant, stored.device).to_string(),
        idle_timeout: stored.timeouts.idle.try_into().ok(),
        total_timeout: stored.timeouts.total.try_into().ok(),
        state: state.into(),
        end_reason: stored.ended.map_or(api::EndReason::Unspecified, reason).into(),
        creator: stored.creator,
        create_time: Some(stored.create_time.into()),
        expire_time: Some(stored.expire_time.into()),
        last_frame_time: Some(stored.last_frame_time.into()),
        end_time: stored.end_time.map(Into::into),
        traffic: Some(traffic(stored.traffic)),
        role: role(stored.role).into(),
        attached: stored.is_attached,
    }
}

pub(super) fn event(tenant: TenantId, event: Event) -> DebugSessionEvent {
    let kind = match event.kind {
        EventKind::Created => ApiKind::Created,
        EventKind::Attached => ApiKind::Attached,
        EventKind::Detached => ApiKind::Detached,
        EventKind::Denied => ApiKind::Denied,
        EventKind::Ended => ApiKind::Ended,
    };
    DebugSessionEvent {
        time: Some(event.time.into()),
        kind: kind.into(),
        debug_session: event
            .session
            .map(|id| DebugSessionName::new(tenant, id).to_string())
            .unwrap_or_default(),
        device: DeviceName::new(tenant, event.device).to_string(),
        subject: event.subject,
        role: event.role.map_or(api::Role::Unspecified, role).into(),
        start_time: event.start_time.map(Into::into),
        reason: event.reason.map_or(api::EndReason::Unspecified, reason).into(),
        denial: event.denial,
        traffic: Some(traffic(event.traffic)),
    }
}

pub(super) fn told(told: Told) -> AttachDebugSessionResponse {
    let message = match told {
        Told::Attached { down_received_up_to, up_after } => Message::Attached(api::Attached {
            down_received_up_to: signed(down_received_up_to),
            up_after: signed(up_after),
        }),
        Told::Frame(frame) => Message::Frame(DebugFrame { number: signed(frame.number), data: frame.data }),
        Told::Progress { delivered_up_to, credit_up_to } => Message::Progress(api::Progress {
            delivered_up_to: signed(delivered_up_to),
            credit_up_to: signed(credit_up_to),
        }),
        Told::Ended(why) => {
            Message::Ended(api::Ended { reason: reason(why).into(), resumable: why.is_resumable() })
        }
    };
    AttachDebugSessionResponse { message: Some(message) }
}

fn role(role: Role) -> api::Role {
    match role {
        Role::Writer => api::Role::Writer,
        Role::Watcher => api::Role::Watcher,
    }
}

fn reason(reason: EndReason) -> api::EndReason {
    match reason {
        EndReason::Closed => api::EndReason::Closed,
        EndReason::ClosedByOperator => api::EndReason::ClosedByOperator,
        EndReason::Idle => api::EndReason::Idle,
        EndReason::Expired => api::EndReason::Expired,
        EndReason::DeviceUnreachable => api::EndReason::DeviceUnreachable,
        EndReason::DeviceRefused => api::EndReason::DeviceRefused,
        EndReason::DeviceBusy => api::EndReason::DeviceBusy,
        EndReason::DeviceRestarted => api::EndReason::DeviceRestarted,
        EndReason::DeviceClosed => api::EndReason::DeviceClosed,
        EndReason::DeviceRevoked => api::EndReason::DeviceRevoked,
        EndReason::Forbidden => api::EndReason::Forbidden,
        EndReason::ProtocolError => api::EndReason::ProtocolError,
        EndReason::Left => api::EndReason::Left,
        EndReason::Replaced => api::EndReason::Replaced,
        EndReason::Draining => api::EndReason::Draining,
        EndReason::Moved => api::EndReason::Moved,
        EndReason::CallerError => api::EndReason::CallerError,
        EndReason::TokenExpired => api::EndReason::TokenExpired,
        EndReason::RelayLost => api::EndReason::RelayLost,
        EndReason::NotResumable => api::EndReason::NotResumable,
    }
}

fn traffic(traffic: Traffic) -> api::Traffic {
    api::Traffic {
        frames_up: signed(traffic.frames_up),
        bytes_up: signed(traffic.bytes_up),
        frames_down: signed(traffic.frames_down),
        bytes_down: signed(traffic.bytes_down),
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_names_every_reason_as_it_is_stored() {
        for stored in EndReason::ALL {
            let expected = format!("END_REASON_{}", stored.name().to_uppercase());
            assert_eq!(reason(stored).as_str_name(), expected);
        }
    }
}
