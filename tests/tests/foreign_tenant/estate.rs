//! What a tenant owns: one of everything a request can name.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dev::{Service, Stack};
use prost::Message;
use prost_reflect::{DynamicMessage, Value};
use proto::debug::v1::debug_session_service_client::DebugSessionServiceClient;
use proto::debug::v1::{CreateDebugSessionRequest, DebugSession};
use proto::device::v1::{BootId, CrashDown, CrashMemoryUp, CrashUp, EnrollStatus};
use proto::ota::v1::CreateDeploymentRequest;
use proto::ota::v1::deployment_service_client::DeploymentServiceClient;
use proto::registry::v1::ListPendingEnrollmentsRequest;
use proto::registry::v1::Role;
use proto::registry::v1::device_service_client::DeviceServiceClient;
use scenarios::client::Person;
use tokio::time::timeout;

use crate::board::{Board, Enrolled, Voucher};
use crate::method::{Method, NameField};
use crate::{fleet, tenant};

/// How long an acknowledgement may take before the report is sent again.
const RESEND: Duration = Duration::from_millis(500);

/// Names by pattern.
#[derive(Clone)]
pub(crate) struct Names(BTreeMap<String, String>);

pub(crate) struct Estate {
    pub(crate) person: Person,
    names: Names,
}

impl Estate {
    /// All of it real.
    pub(crate) async fn make(stack: &Stack, person: Person) -> Result<Estate> {
        let owner = tenant::furnish(stack, person, 1).await?;
        let viewer = owner.person.colleague(stack, Role::Viewer).await?;
        let (claim, claim_key) = fleet::new_claim(stack, &owner.person, 10).await?;
        let voucher = Voucher { certificate: &claim.certificate, key: &claim_key };
        let board = Board::new("serial-1")?;
        let issued = board.enroll(stack, &voucher).await?;
        ensure!(issued.status() == EnrollStatus::Issued, "{:?}", issued.reason());
        let waiting = Board::new("serial-1")?.enroll(stack, &voucher).await?;
        ensure!(waiting.status() == EnrollStatus::Pending, "{:?}", waiting.reason());
        let device = format!("{}/devices/{}", owner.person.tenant, issued.device_id);
        let mut devices = DeviceServiceClient::new(owner.person.client(stack, Service::Registry).await?);
        let list =
            ListPendingEnrollmentsRequest { parent: owner.person.tenant.clone(), ..Default::default() };
        let pending =
            devices.list_pending_enrollments(list).await?.into_inner().pending_enrollments.remove(0);

        let crash = crash(stack, Enrolled { board, answer: issued }).await?;

        let (first, second) = (tenant::noise(1, 40_000), tenant::noise(2, 40_000));
        let bundle = owner.upload(stack, &tenant::spec("1.0.0", &[&first])).await?;
        let envelope = owner.sign(&tenant::spec("2.0.0", &[&second]))?.envelope;
        let upload = tenant::create(&mut owner.bundles(stack).await?, &owner, &envelope).await?;
        let mut deployments = DeploymentServiceClient::new(owner.person.client(stack, Service::Ota).await?);
        let request = CreateDeploymentRequest {
            parent: owner.person.tenant.clone(),
            device: device.clone(),
            bundle: bundle.name.clone(),
            ..Default::default()
        };
        let deployment = deployments.create_deployment(request).await?.into_inner();

        let relay = owner.person.client(stack, Service::DebugRelay).await?;
        let wanted = DebugSession { device: device.clone(), ..DebugSession::default() };
        let request = CreateDebugSessionRequest {
            parent: owner.person.tenant.clone(),
            debug_session: Some(wanted),
            ..Default::default()
        };
        let debug_session =
            DebugSessionServiceClient::new(relay).create_debug_session(request).await?.into_inner();

        let tenant = &owner.person.tenant;
        let mut names = Names(BTreeMap::new());
        for (pattern, name) in [
            ("", tenant.clone()),
            ("/keys/{key}", viewer.key),
            ("/claims/{claim}", claim.name),
            ("/devices/{device}", device.clone()),
            ("/pendingEnrollments/{pending}", pending.name),
            ("/keysets/{version}", format!("{tenant}/keysets/1")),
            ("/bundles/{bundle}", bundle.name),
            ("/uploads/{upload}", upload.name),
            ("/deployments/{deployment}", deployment.name),
            ("/debugSessions/{session}", debug_session.name),
            ("/devices/{device}/crashes/{crash}", format!("{device}/crashes/{crash}")),
        ] {
            names.0.insert(format!("tenants/{{tenant}}{pattern}"), name);
        }
        Ok(Estate { person: owner.person, names })
    }

    /// Well-formed names of things that are not there.
    pub(crate) fn imagined(person: Person) -> Estate {
        let mut names = Names(BTreeMap::new());
        for (kind, prefix) in [
            ("keys/{key}", "ky"),
            ("claims/{claim}", "cl"),
            ("devices/{device}", "dv"),
            ("pendingEnrollments/{pending}", "pn"),
            ("bundles/{bundle}", "bn"),
            ("uploads/{upload}", "ul"),
            ("deployments/{deployment}", "dp"),
            ("debugSessions/{session}", "ds"),
        ] {
            let (collection, _) = kind.split_once('/').unwrap();
            let name = format!("{}/{collection}/{prefix}{}", person.tenant, "0".repeat(32));
            names.0.insert(format!("tenants/{{tenant}}/{kind}"), name);
        }
        names.0.insert("tenants/{tenant}".into(), person.tenant.clone());
        let crash = format!("{}/devices/dv{}/crashes/1-{}-1", person.tenant, "0".repeat(32), "0".repeat(16));
        names.0.insert("tenants/{tenant}/devices/{device}/crashes/{crash}".into(), crash);
        names.0.insert("tenants/{tenant}/keysets/{version}".into(), format!("{}/keysets/1", person.tenant));
        Estate { person, names }
    }

    pub(crate) fn fill(&self, method: &Method) -> Result<Vec<u8>> {
        self.names.fill(method)
    }

    /// The owner's own call. Two methods delete the same device: the first of them only asks.
    pub(crate) fn fill_own(&self, method: &Method) -> Result<Vec<u8>> {
        let mut request = DynamicMessage::decode(method.input.clone(), self.fill(method)?.as_slice())?;
        if method.path.ends_with("/BatchDeleteDevices") {
            request.set_field_by_name("validate_only", Value::Bool(true));
        }
        Ok(request.encode_to_vec())
    }

    /// The same with something after one of the names.
    pub(crate) fn fill_ending(&self, method: &Method, one: &NameField, ending: &str) -> Result<Vec<u8>> {
        let mut request = plausible(method);
        for field in method.names() {
            let name = self.names.of(method, &field)?;
            field.set(&mut request, &if field == *one { format!("{name}{ending}") } else { name.to_owned() });
        }
        Ok(request.encode_to_vec())
    }

    /// The same ids under a tenant that does not exist.
    pub(crate) fn in_no_tenant(&self) -> Names {
        self.in_tenant(&format!("tenants/tn{}", "0".repeat(32)))
    }

    /// The same ids under another tenant, where they are not.
    pub(crate) fn in_tenant(&self, tenant: &str) -> Names {
        let moved = |name: &String| name.replacen(&self.person.tenant, tenant, 1);
        Names(self.names.0.iter().map(|(pattern, name)| (pattern.clone(), moved(name))).collect())
    }
}

/// A crash report of the device and its memory, stored: its id.
async fn crash(stack: &Stack, device: Enrolled) -> Result<String> {
    let boot = Some(BootId { counter: 1, random: 2 });
    let report = CrashUp { boot, sequence: 1, ..CrashUp::default() };
    let pieces = [0x2000_0000u32, 8].map(u32::to_le_bytes).concat();
    let memory = CrashMemoryUp { boot, sequence: 1, total: 8, pieces, offset: 0, data: vec![7; 8] };
    let memory = CrashUp { memory: Some(memory), ..CrashUp::default() };
    let (mut has_report, mut has_memory) = (false, false);
    let mut session = device.connect(stack).await?;
    session.subscribe_to(&format!("hf/1/{}/dn/crash", device.id())).await?;
    let up = format!("hf/1/{}/up/crash", device.id());
    loop {
        // The service may not have subscribed yet: a device sends until it is told.
        let next = if has_report { &memory } else { &report };
        session.publish(&up, next.encode_to_vec()).await?;
        if let Ok(message) = timeout(RESEND, session.message()).await
            && let (topic, payload) = message?
            && topic.ends_with("/dn/crash")
        {
            let stored = CrashDown::decode(&*payload)?.memory.map(|memory| memory.stored_up_to);
            (has_report, has_memory) = (true, has_memory || stored == Some(8));
        }
        if has_report && has_memory {
            return Ok("1-0000000000000002-1".into());
        }
    }
}

impl Names {
    /// A request of this method with every name in it.
    pub(crate) fn fill(&self, method: &Method) -> Result<Vec<u8>> {
        let mut request = plausible(method);
        for field in method.names() {
            field.set(&mut request, self.of(method, &field)?);
        }
        Ok(request.encode_to_vec())
    }

    /// The same with one name of somebody else's.
    pub(crate) fn fill_but(&self, method: &Method, one: &NameField, whose: &Estate) -> Result<Vec<u8>> {
        let mut request = plausible(method);
        for field in method.names() {
            let names = if field == *one { &whose.names } else { self };
            field.set(&mut request, names.of(method, &field)?);
        }
        Ok(request.encode_to_vec())
    }

    fn of(&self, method: &Method, field: &NameField) -> Result<&str> {
        let name = self.0.get(&field.pattern).map(String::as_str);
        name.with_context(|| {
            format!("{}: nothing is known of a {}; make one here", method.path, field.pattern)
        })
    }
}

/// What a method asks for beside names, where a default would hide the answer that is tested.
fn plausible(method: &Method) -> DynamicMessage {
    let mut request = DynamicMessage::new(method.input.clone());
    if method.path.ends_with("/WriteLayer") {
        request.set_field_by_name("digest", Value::String("0".repeat(64)));
    }
    request
}
