//! Methods as the descriptors have them, and a client that sends any of them.

use anyhow::{Context, Result};
use dev::{Service, Stack};
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use proto::auth::v1::Access;
use scenarios::client;
use scenarios::raw::Raw;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// Nested messages followed for names.
const DEPTH_MAX: usize = 4;

/// All of them.
pub(crate) struct Methods {
    pool: DescriptorPool,
}

/// One method.
pub(crate) struct Method {
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    pub(crate) input: MessageDescriptor,
}

/// A field of a request that names a resource.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NameField {
    /// `device.name`
    pub(crate) path: String,
    /// `tenants/{tenant}/devices/{device}`
    pub(crate) pattern: String,
    fields: Vec<FieldDescriptor>,
}

/// What came back.
#[derive(Debug)]
pub(crate) enum Answer {
    Ok,
    Refused(Status),
}

impl Answer {
    pub(crate) fn code(&self) -> Code {
        match self {
            Answer::Ok => Code::Ok,
            Answer::Refused(status) => status.code(),
        }
    }
}

impl Methods {
    pub(crate) fn read() -> Result<Methods> {
        Ok(Methods { pool: DescriptorPool::decode(proto::DESCRIPTORS)? })
    }

    /// The table that kit enforces and the descriptors must tell of the same methods.
    pub(crate) fn all(&self) -> impl Iterator<Item = Method> {
        let declared: usize = self
            .pool
            .services()
            .filter(|service| service.full_name().starts_with("holdfast."))
            .map(|service| service.methods().count())
            .sum();
        assert_eq!(declared, proto::METHODS.len());
        proto::METHODS.iter().map(|row| {
            let (service, method) = row.path.trim_start_matches('/').split_once('/').unwrap();
            let service = self.pool.get_service_by_name(service).unwrap();
            let method = service.methods().find(|m| m.name() == method).unwrap();
            Method { path: row.path, access: row.access, input: method.input() }
        })
    }
}

impl Method {
    pub(crate) fn names(&self) -> Vec<NameField> {
        let mut found = Vec::new();
        names_of(&self.input, &[], &mut found);
        found
    }

    /// Sorts what ends things after what only looks at them.
    pub(crate) fn how_final(&self) -> u8 {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        let begins = |words: &[&str]| words.iter().any(|word| name.starts_with(word));
        match name {
            _ if begins(&["Get", "BatchGet", "List", "Watch", "Tail"]) => 0,
            _ if begins(&["Delete", "BatchDelete"]) => 3,
            _ if begins(&["Revoke", "Cancel", "Close", "Accept", "Finish"]) => 2,
            _ => 1,
        }
    }

    pub(crate) async fn call(&self, stack: &Stack, request: &[u8], token: Option<&str>) -> Result<Answer> {
        let channel = client::channel(stack, self.service()?).await?;
        self.send(channel, request, token).await
    }

    /// With svc-broker's certificate and no token.
    pub(crate) async fn call_as_service(&self, stack: &Stack, request: &[u8]) -> Result<Answer> {
        let channel = client::service_channel(stack, self.service()?, "svc-broker").await?;
        self.send(channel, request, None).await
    }

    fn service(&self) -> Result<Service> {
        let package = self.path.trim_start_matches("/holdfast.").split('.').next().unwrap_or_default();
        Ok(match package {
            "registry" => Service::Registry,
            "broker" => Service::Broker,
            "ota" => Service::Ota,
            "logs" => Service::Logs,
            "debug" => Service::DebugRelay,
            other => anyhow::bail!("which service serves {other}? Say so here"),
        })
    }

    async fn send(&self, channel: Channel, request: &[u8], token: Option<&str>) -> Result<Answer> {
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready().await?;
        let mut call = Request::new(tokio_stream::once(request.to_vec()));
        if let Some(token) = token {
            let bearer: MetadataValue<_> = format!("Bearer {token}").parse()?;
            call.metadata_mut().insert("authorization", bearer);
        }
        // A refusal comes instead of a stream; a stream that began may have nothing to say for long.
        let answer = grpc.streaming(call, PathAndQuery::from_static(self.path), Raw);
        let answer = tokio::time::timeout(crate::board::PATIENCE, answer).await.context(self.path)?;
        Ok(answer.map_or_else(Answer::Refused, |_| Answer::Ok))
    }
}

impl NameField {
    /// One of several of its kind.
    pub(crate) fn is_listed(&self) -> bool {
        self.fields.iter().any(FieldDescriptor::is_list)
    }

    /// Writes a name into a request.
    pub(crate) fn set(&self, request: &mut DynamicMessage, name: &str) {
        let (last, way) = self.fields.split_last().unwrap();
        let mut message = request;
        for field in way {
            message = inner(message, field);
        }
        let name = Value::String(name.to_owned());
        message.set_field(last, if last.is_list() { Value::List(vec![name]) } else { name });
    }
}

/// The message of a field, or the one element of a list of them.
fn inner<'m>(message: &'m mut DynamicMessage, field: &FieldDescriptor) -> &'m mut DynamicMessage {
    let value = message.get_field_mut(field);
    if let Value::List(elements) = value
        && elements.is_empty()
    {
        let Kind::Message(of) = field.kind() else { panic!("{}: no message", field.full_name()) };
        elements.push(Value::Message(DynamicMessage::new(of)));
    }
    match value {
        Value::List(elements) => elements[0].as_message_mut().unwrap(),
        message => message.as_message_mut().unwrap(),
    }
}

fn names_of(message: &MessageDescriptor, way: &[FieldDescriptor], found: &mut Vec<NameField>) {
    if way.len() >= DEPTH_MAX {
        return;
    }
    for field in message.fields().filter(|field| !field.is_map()) {
        let fields = [way, std::slice::from_ref(&field)].concat();
        match field.kind() {
            Kind::Message(inner) if inner.full_name().starts_with("holdfast.") => {
                names_of(&inner, &fields, found)
            }
            Kind::String => {
                let path = fields.iter().map(FieldDescriptor::name).collect::<Vec<_>>().join(".");
                let pattern = pattern(&comment(&field));
                let expected = matches!(field.name(), "name" | "names" | "parent");
                assert!(
                    pattern.is_some() || !expected,
                    "{}: its comment states no pattern",
                    field.full_name()
                );
                found.extend(pattern.map(|pattern| NameField { path, pattern, fields }));
            }
            _ => {}
        }
    }
}

/// The comment before a field in its .proto file.
fn comment(field: &FieldDescriptor) -> String {
    let file = field.parent_file();
    let info =
        file.file_descriptor_proto().source_code_info.as_ref().expect("descriptors keep their comments");
    let location = info.location.iter().find(|location| location.path == field.path());
    location.map(|location| location.leading_comments().to_owned()).unwrap_or_default()
}

fn pattern(comment: &str) -> Option<String> {
    let start = comment.find("tenants/{tenant}")?;
    let of_pattern = |c: &char| c.is_ascii_alphabetic() || matches!(c, '/' | '{' | '}');
    Some(comment[start..].chars().take_while(of_pattern).collect())
}
