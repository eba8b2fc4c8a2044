//! `DeploymentService`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use kit::once::Call;
use kit::{Shutdown, page, status};
use proto::name::{BundleName, DeploymentName, DeviceName, TenantName};
use proto::ota::v1::deployment::State as StateMessage;
use proto::ota::v1::deployment_service_server::DeploymentService;
use proto::ota::v1::{
    CancelDeploymentRequest, CreateDeploymentRequest, Deployment, DirectorKey, ForgetDirectorKeysRequest,
    ForgetDirectorKeysResponse, GetDeploymentRequest, GetDirectorKeyRequest, ListDeploymentsRequest,
    ListDeploymentsResponse, RotateDirectorKeyRequest, WatchDeploymentRequest, WatchDeploymentResponse,
};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use wire::{DeploymentId, PublicKey};

use super::bundle::next;
use super::{name, named, tenant, timestamp};
use crate::app::{App, deploy, director};
use crate::link::Outbox;
use crate::model::deployment as model;
use crate::model::state::State;

pub(super) struct Deployments {
    pub(super) app: Arc<App>,
    pub(super) outbox: Outbox,
    pub(super) shutdown: Shutdown,
}

type Watch = Pin<Box<dyn Stream<Item = Result<WatchDeploymentResponse, Status>> + Send>>;

#[tonic::async_trait]
impl DeploymentService for Deployments {
    type WatchDeploymentStream = Watch;

    async fn create_deployment(
        &self,
        request: Request<CreateDeploymentRequest>,
    ) -> Result<Response<Deployment>, Status> {
        let asked = request.get_ref();
        let parent: TenantName = name("parent", &asked.parent)?;
        let tenant = tenant(&request, parent.tenant)?;
        let device: DeviceName = name("device", &asked.device)?;
        let bundle: BundleName = name("bundle", &asked.bundle)?;
        if device.tenant != tenant || bundle.tenant != tenant {
            return Err(status::not_found());
        }
        let call = Call::take(&mut request.into_inner(), tenant)?;
        let now = SystemTime::now();
        let (made, effects) = deploy::create(&self.app, &call, tenant, device.id, bundle.id, now).await?;
        self.outbox.send(effects);
        let made = message(made);
        Ok(Response::new(Deployment { name: named(&call, made.name), ..made }))
    }

    async fn get_deployment(
        &self,
        request: Request<GetDeploymentRequest>,
    ) -> Result<Response<Deployment>, Status> {
        let asked: DeploymentName = name("name", &request.get_ref().name)?;
        let tenant = tenant(&request, asked.tenant)?;
        Ok(Response::new(message(deploy::find(&self.app, tenant, asked.id).await?)))
    }

    async fn list_deployments(
        &self,
        request: Request<ListDeploymentsRequest>,
    ) -> Result<Response<ListDeploymentsResponse>, Status> {
        let asked = request.get_ref();
        let parent: TenantName = name("parent", &asked.parent)?;
        let tenant = tenant(&request, parent.tenant)?;
        let device = match asked.device.as_str() {
            "" => None,
            text => Some(name::<DeviceName>("device", text)?),
        };
        if device.is_some_and(|device| device.tenant != tenant) {
            return Err(status::not_found());
        }
        let (size, of) = (page::size(asked.page_size)?, ["deployments", &asked.parent, &asked.device]);
        let before = page::id_cursor::<DeploymentId>(&of, &asked.page_token)?;
        let mut found =
            deploy::list(&self.app, tenant, device.map(|device| device.id), before, size + 1).await?;
        let next_page_token = next(&of, &mut found, size, |deployment| deployment.id.to_string());
        let deployments = found.into_iter().map(message).collect();
        Ok(Response::new(ListDeploymentsResponse { deployments, next_page_token }))
    }

    async fn watch_deployment(
        &self,
        request: Request<WatchDeploymentRequest>,
    ) -> Result<Response<Watch>, Status> {
        let asked: DeploymentName = name("name", &request.get_ref().name)?;
        let tenant = tenant(&request, asked.tenant)?;
        let seen = seen(&asked, &request.get_ref().resume_token)?;
        let place = self.app.watches.take(tenant)?;
        let first = deploy::find(&self.app, tenant, asked.id).await?;
        let (sender, receiver) = mpsc::channel(1);
        let (app, shutdown) = (self.app.clone(), self.shutdown.clone());
        // Ends with the deployment, the caller or the process, whichever is first.
        tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                () = watch(&app, asked, first, seen, &sender) => {}
                () = sender.closed() => {}
                () = shutdown.wait() => {
                    let _ = sender.try_send(Err(status::unavailable("shutting down; watch again")));
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn cancel_deployment(
        &self,
        request: Request<CancelDeploymentRequest>,
    ) -> Result<Response<Deployment>, Status> {
        let asked: DeploymentName = name("name", &request.get_ref().name)?;
        let tenant = tenant(&request, asked.tenant)?;
        let mut request = request.into_inner();
        let call = Call::take(&mut request, tenant)?;
        let now = SystemTime::now();
        let (cancelled, effects) =
            deploy::cancel(&self.app, &call, tenant, asked.id, &request.etag, now).await?;
        self.outbox.send(effects);
        Ok(Response::new(message(cancelled)))
    }

    async fn get_director_key(
        &self,
        request: Request<GetDirectorKeyRequest>,
    ) -> Result<Response<DirectorKey>, Status> {
        let parent: TenantName = name("parent", &request.get_ref().parent)?;
        let tenant = tenant(&request, parent.tenant)?;
        let key = director::public_key(&self.app, tenant).await?;
        let der = key.spki_der().map_err(|error| status::internal(&error))?;
        Ok(Response::new(DirectorKey { public_key: der.to_vec() }))
    }

    async fn rotate_director_key(
        &self,
        request: Request<RotateDirectorKeyRequest>,
    ) -> Result<Response<DirectorKey>, Status> {
        let parent: TenantName = name("parent", &request.get_ref().parent)?;
        let tenant = tenant(&request, parent.tenant)?;
        let call = Call::take(&mut request.into_inner(), tenant)?;
        let key = director::rotate(&self.app, &call, tenant, SystemTime::now()).await?;
        let der = key.map(|key| key.spki_der()).transpose().map_err(|error| status::internal(&error))?;
        Ok(Response::new(DirectorKey { public_key: der.map(|der| der.to_vec()).unwrap_or_default() }))
    }

    async fn forget_director_keys(
        &self,
        request: Request<ForgetDirectorKeysRequest>,
    ) -> Result<Response<ForgetDirectorKeysResponse>, Status> {
        let parent: TenantName = name("parent", &request.get_ref().parent)?;
        let tenant = tenant(&request, parent.tenant)?;
        let call = Call::take(&mut request.into_inner(), tenant)?;
        let done = director::forget(&self.app, &call, tenant, SystemTime::now()).await?;
        let der = |key: &PublicKey| key.spki_der().map(|der| der.to_vec());
        let public_keys = done.keys.iter().map(der).collect::<Result<_, _>>();
        let waiting = done.waiting.as_ref().map(der).transpose();
        Ok(Response::new(ForgetDirectorKeysResponse {
            forgotten: done.count as i32,
            public_keys: public_keys.map_err(|error| status::internal(&error))?,
            waiting_public_key: waiting.map_err(|error| status::internal(&error))?.unwrap_or_default(),
        }))
    }
}

/// Sends the deployment as it is and each change, from the revision that was `seen` on, until it is final. A database
/// that is away is waited for.
async fn watch(
    app: &App,
    name: DeploymentName,
    first: model::Deployment,
    mut seen: Option<i64>,
    sender: &mpsc::Sender<Result<WatchDeploymentResponse, Status>>,
) {
    let mut waiter = app.changes.waiter(name.id);
    let mut newest = first;
    loop {
        if seen != Some(newest.revision) {
            let is_final = newest.state.is_final();
            let told = told(&name, newest, seen);
            seen = Some(told.0);
            if sender.send(Ok(told.1)).await.is_err() || is_final {
                return;
            }
        } else if newest.state.is_final() {
            return;
        } else {
            waiter.worth_a_look().await;
        }
        // The first look catches what changed before the waiter was there.
        newest = loop {
            match deploy::find(app, name.tenant, name.id).await.map_err(Status::from) {
                Ok(now) => break now,
                Err(status) if status.code() == tonic::Code::Unavailable => waiter.worth_a_look().await,
                Err(status) => {
                    let _ = sender.send(Err(status)).await;
                    return;
                }
            }
        };
    }
}

/// The revision, and the message about it for one who has seen another.
fn told(name: &DeploymentName, now: model::Deployment, seen: Option<i64>) -> (i64, WatchDeploymentResponse) {
    let revision = now.revision;
    // A revision that is not yet: the database is an older one.
    let missed = seen.map_or(0, |seen| (revision - seen - 1).max(0));
    let resume_token = page::token(&watched(&name.to_string()), &revision);
    (revision, WatchDeploymentResponse { deployment: Some(message(now)), resume_token, missed })
}

/// The revision of a token.
fn seen(name: &DeploymentName, token: &str) -> Result<Option<i64>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let revision = page::read::<i64>(&watched(&name.to_string()), token, page::PAGE_TOKEN_BYTES_MAX);
    let revision = revision.filter(|revision| *revision > 0);
    revision.map(Some).ok_or_else(|| {
        status::invalid("resume_token", "is not of a watch of this deployment; start without one")
    })
}

/// What a token of a watch is good for.
fn watched(name: &str) -> [&str; 2] {
    ["watch-deployment", name]
}

fn message(it: model::Deployment) -> Deployment {
    let etag = it.etag();
    let state = match it.state {
        State::Pending => StateMessage::Pending,
        State::Fetching => StateMessage::Fetching,
        State::Verified => StateMessage::Verified,
        State::Polite => StateMessage::Polite,
        // Granted, and not heard of since: to whom it may concern it is still ready.
        State::Ready | State::Granted => StateMessage::Ready,
        State::Installing => StateMessage::Installing,
        State::Trial => StateMessage::Trial,
        State::Confirmed => StateMessage::Confirmed,
        State::Reverted => StateMessage::Reverted,
        State::Refused => StateMessage::Refused,
        State::Cancelled => StateMessage::Cancelled,
        State::Superseded => StateMessage::Superseded,
    };
    Deployment {
        name: DeploymentName::new(it.tenant, it.id).to_string(),
        device: DeviceName::new(it.tenant, it.device).to_string(),
        bundle: BundleName::new(it.tenant, it.bundle).to_string(),
        state: state.into(),
        reason: it.reason,
        bytes_done: it.bytes_done as i64,
        bytes_total: it.bytes_total as i64,
        create_time: timestamp(it.created_at),
        update_time: timestamp(it.updated_at),
        attempts: it.attempts as i32,
        committed: it.committed,
        version: it.version,
        etag,
        component: it.component.to_string(),
    }
}
