//! EMQX 5: its management API (`/api/v5`, HTTP basic authentication by an API key), over TLS that SERVER_CA vouches for.
//!
//! EMQX asks nobody about a certificate: the device may come back, and is then ignored by every service. The list of
//! banned names is not used: it has no end, and a device that was given a new key keeps its name.

use std::collections::HashSet;

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use wire::DeviceId;

use super::{Cause, ControlError, Ended, NODE_MAX};
use crate::seal::Secret;
use crate::tls::Tls;

/// Clients asked for at once.
const PAGE_CLIENTS_MAX: usize = 1000;
/// Longest answer that is read: such a page, with all that EMQX tells of a client.
pub const ANSWER_BYTES_MAX: usize = 4 << 20;

#[derive(Debug, Clone)]
pub(super) struct Emqx {
    /// Up to and with `/api/v5`.
    base: String,
    key: String,
    secret: Secret<String>,
    client: Client,
}

/// One page of `GET /clients`; of what it says, what is needed.
#[derive(Debug, Deserialize)]
struct Page {
    data: Vec<Row>,
    meta: Meta,
}

#[derive(Debug, Deserialize)]
struct Row {
    clientid: String,
}

#[derive(Debug, Deserialize)]
struct Meta {
    #[serde(default)]
    hasnext: bool,
}

impl Emqx {
    pub(super) fn new(tls: &Tls, url: &str, key: Option<&Secret<String>>) -> Result<Self, ControlError> {
        let wanted = || ControlError::Key { url: url.to_owned() };
        let (key, secret) = key.and_then(|pair| pair.expose().split_once(':')).ok_or_else(wanted)?;
        let address = url.strip_prefix("emqx+").unwrap_or(url).trim_end_matches('/');
        let base = format!("{address}/api/v5");
        reqwest::Url::parse(address).map_err(|_| ControlError::Address { url: url.to_owned() })?;
        let client = Client::builder()
            .use_preconfigured_tls(tls.anonymous_client_config()?)
            .https_only(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(NODE_MAX)
            .build()
            .map_err(ControlError::Client)?;
        Ok(Self { base, key: key.to_owned(), secret: Secret::new(secret.to_owned()), client })
    }

    pub(super) async fn disconnect(&self, identity: &str) -> Result<Ended, Cause> {
        // Whoever enrols has a client id of its own choice there: it is not found by the claim's name.
        let Ok(device) = identity.parse::<DeviceId>() else { return Ok(Ended::NotOnDemand) };
        let response = self.request(Method::DELETE, &format!("/clients/{device}")).send().await?;
        match response.status() {
            StatusCode::NO_CONTENT | StatusCode::OK => Ok(Ended::Closed(1)),
            // By its own code: a proxy that knows no such path says 404 too.
            StatusCode::NOT_FOUND if code(response).await? == "CLIENTID_NOT_FOUND" => Ok(Ended::Closed(0)),
            status => Err(Cause::Status(status)),
        }
    }

    pub(super) async fn connected(&self, devices: &[DeviceId]) -> Result<HashSet<DeviceId>, Cause> {
        let wanted: HashSet<DeviceId> = devices.iter().copied().collect();
        let mut connected = HashSet::new();
        for page in 1.. {
            let path = format!("/clients?conn_state=connected&limit={PAGE_CLIENTS_MAX}&page={page}");
            let response = self.request(Method::GET, &path).send().await?;
            if response.status() != StatusCode::OK {
                return Err(Cause::Status(response.status()));
            }
            let page: Page = serde_json::from_slice(&body(response).await?).map_err(|_| Cause::Answer)?;
            // Services and boards that enrol have no device id for a name.
            let ids = page.data.iter().filter_map(|row| row.clientid.parse().ok());
            connected.extend(ids.filter(|id| wanted.is_empty() || wanted.contains(id)));
            if !page.meta.hasnext || page.data.is_empty() {
                break;
            }
        }
        Ok(connected)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        request.basic_auth(&self.key, Some(self.secret.expose()))
    }
}

/// EMQX's name of an error.
async fn code(response: Response) -> Result<String, Cause> {
    #[derive(Deserialize)]
    struct Refusal {
        code: String,
    }
    let status = response.status();
    let refusal = serde_json::from_slice::<Refusal>(&body(response).await?);
    refusal.map(|refusal| refusal.code).map_err(|_| Cause::Status(status))
}

async fn body(mut response: Response) -> Result<Vec<u8>, Cause> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(Cause::Answer);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
