//! Enrolment requests, several at a time, each answered on its own topic.

use std::sync::Arc;
use std::time::SystemTime;

use futures::StreamExt;
use kit::Shutdown;
use kit::mqtt::Incoming;
use prost::Message;
use proto::device::v1::{EnrollDown, EnrollReason, EnrollStatus};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use wire::topic::{Direction, Topic, TopicId};

use super::{Link, decode};
use crate::app::{EnrollReply, Issue};
use crate::model::enroll::Refusal;

/// Requests worked on at once.
const ENROLLING_MAX: usize = 8;
/// When a waiting board should ask again.
const PENDING_RETRY_S: u32 = 60;
/// When a board should ask again after trouble that passes.
const TROUBLE_RETRY_S: u32 = 5;

impl Link {
    pub(crate) async fn answer_enrolments(
        self: Arc<Self>,
        inbox: mpsc::Receiver<Incoming>,
        shutdown: Shutdown,
    ) {
        let work = ReceiverStream::new(inbox).for_each_concurrent(ENROLLING_MAX, |message| {
            let link = self.clone();
            async move { link.enroll(message).await }
        });
        shutdown.or(work).await;
    }

    async fn enroll(&self, message: Incoming) {
        let TopicId::Enroll(client) = message.topic.id else { return };
        let reply = match decode::enroll(client, &message.payload) {
            Err(_) => refused(Refusal::Malformed),
            Ok(request) => match self.app.enroll(&request, SystemTime::now()).await {
                Ok((reply, effects)) => {
                    // Before the answer: the board must not be disconnected under its new key.
                    let _ = self.carry_out(&effects).await;
                    encode(reply)
                }
                Err(error) => {
                    tracing::warn!(error = kit::status::chain(&error), "enrolment could not be decided");
                    refused(Refusal::TryLater)
                }
            },
        };
        let reason = reply.reason().as_str_name();
        metrics::counter!("registry_enrolments_total", "status" => reply.status().as_str_name(), "reason" => reason)
            .increment(1);
        // Lost: the board asks again.
        let _ = self.mqtt.publish(&Topic::enroll(client, Direction::Down), reply.encode_to_vec());
    }
}

fn encode(reply: EnrollReply) -> EnrollDown {
    match reply {
        EnrollReply::Issued(issue) => issued(*issue),
        EnrollReply::Pending => EnrollDown {
            status: EnrollStatus::Pending.into(),
            reason: EnrollReason::HardwareIdKnown.into(),
            retry_after_s: PENDING_RETRY_S,
            ..EnrollDown::default()
        },
        EnrollReply::Refused(refusal) => refused(refusal),
    }
}

fn issued(issue: Issue) -> EnrollDown {
    EnrollDown {
        status: EnrollStatus::Issued.into(),
        device_id: issue.device.to_string(),
        tenant_id: issue.tenant.to_string(),
        leaf: issue.leaf,
        intermediate: issue.intermediate,
        birth: issue.birth,
        broker: issue.broker,
        keyset: issue.keyset,
        ..EnrollDown::default()
    }
}

fn refused(refusal: Refusal) -> EnrollDown {
    let (reason, retry_after_s) = match refusal {
        Refusal::BadCsr => (EnrollReason::BadCsr, 0),
        Refusal::ClaimExhausted => (EnrollReason::ClaimExhausted, 0),
        Refusal::ClaimExpired => (EnrollReason::ClaimExpired, 0),
        Refusal::ClaimRevoked => (EnrollReason::ClaimRevoked, 0),
        Refusal::DeviceQuarantined => (EnrollReason::DeviceQuarantined, PENDING_RETRY_S),
        Refusal::DeviceRevoked => (EnrollReason::DeviceRevoked, 0),
        Refusal::Malformed => (EnrollReason::Malformed, 0),
        Refusal::NotVouched => (EnrollReason::NotVouched, 0),
        Refusal::TryLater => (EnrollReason::TryLater, TROUBLE_RETRY_S),
    };
    EnrollDown {
        status: EnrollStatus::Refused.into(),
        reason: reason.into(),
        retry_after_s,
        ..EnrollDown::default()
    }
}
