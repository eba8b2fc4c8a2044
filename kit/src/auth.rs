//! Who is calling, and whether they may.
//!
//! [`layer::Guard`] stands before every method: it looks the path up in `proto::METHODS`, checks the access declared
//! there, and leaves the [`Caller`] in the request's extensions. A path that is not in the table is refused. Which
//! tenant's rows a caller sees is checked by the handler with [`Caller::tenant`], which answers a foreign tenant
//! exactly as one that does not exist.

pub mod keys;
pub mod layer;
mod lease;
mod measured;
pub mod token;
mod verified;

use proto::auth::v1::Access;
use serde::{Deserialize, Serialize};
use tonic::{Request, Status};
use wire::{Service, TenantId};

use crate::status;

pub use keys::{Authenticator, KeySource};
pub use token::Claims;
pub use verified::VERIFIED_MAX;

/// What a person or tool may do within its tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Viewer,
    Operator,
    Developer,
    Admin,
}

/// Who made a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Anyone; on public methods only.
    Anonymous,
    Person(Person),
    /// A service, by its certificate; on service methods only.
    Peer(Peer),
}

/// The bearer of an access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The key's resource name.
    pub subject: String,
    pub tenant: TenantId,
    pub role: Role,
    /// Also administers the whole installation.
    pub installation: bool,
    /// When the token expires, Unix seconds.
    pub until_s: u64,
}

/// A service that calls others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Service(Service),
    Broker,
}

/// Common name of a broker's service certificate.
pub const BROKER_COMMON_NAME: &str = "svc-broker";

impl Role {
    /// Whether the role includes what a method asks for. Developer and operator do not include each other.
    pub fn includes(self, access: Access) -> bool {
        match access {
            Access::Viewer => true,
            Access::Operator => matches!(self, Role::Operator | Role::Admin),
            Access::Developer => matches!(self, Role::Developer | Role::Admin),
            Access::Admin => self == Role::Admin,
            Access::Unspecified | Access::Public | Access::Installation | Access::Service => false,
        }
    }
}

impl Peer {
    pub fn from_common_name(name: &str) -> Option<Self> {
        match name {
            BROKER_COMMON_NAME => Some(Peer::Broker),
            _ => Service::from_common_name(name).map(Peer::Service),
        }
    }
}

impl Person {
    /// Whether this person may call a method of this access.
    pub fn may(&self, access: Access) -> bool {
        match access {
            Access::Installation => self.installation,
            _ => self.role.includes(access),
        }
    }
}

impl Caller {
    /// The tenant, if it is the caller's own; otherwise NOT_FOUND, as for a tenant that does not exist.
    pub fn tenant(&self, tenant: TenantId) -> Result<TenantId, Status> {
        match self {
            Caller::Person(person) if person.tenant == tenant => Ok(tenant),
            _ => Err(status::not_found()),
        }
    }

    /// The person calling; only on methods that ask for one.
    pub fn person(&self) -> Result<&Person, Status> {
        match self {
            Caller::Person(person) => Ok(person),
            _ => Err(unauthenticated("TOKEN_MISSING", "this method needs a bearer token")),
        }
    }

    /// The service calling; only on methods that ask for one.
    pub fn peer(&self) -> Result<Peer, Status> {
        match self {
            Caller::Peer(peer) => Ok(*peer),
            _ => {
                Err(unauthenticated("SERVICE_CERTIFICATE_MISSING", "this method needs a service certificate"))
            }
        }
    }
}

/// Who made the call; put there by [`layer::Guard`].
pub fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| unauthenticated("TOKEN_MISSING", "nobody established who calls"))
}

pub(crate) fn unauthenticated(reason: &str, message: &str) -> Status {
    status::status(tonic::Code::Unauthenticated, reason, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_include_each_other_as_the_design_says() {
        use Access::*;
        let table = [
            (Role::Viewer, [true, false, false, false]),
            (Role::Operator, [true, true, false, false]),
            (Role::Developer, [true, false, true, false]),
            (Role::Admin, [true, true, true, true]),
        ];
        for (role, expected) in table {
            assert_eq!([Viewer, Operator, Developer, Admin].map(|a| role.includes(a)), expected, "{role:?}");
            for never in [Unspecified, Public, Installation, Service] {
                assert!(!role.includes(never), "{role:?} {never:?}");
            }
        }
    }

    #[test]
    fn an_installation_administrator_is_one_only_by_its_claim() {
        let mut person = Person {
            subject: "k".into(),
            tenant: TenantId::new([1; 16]),
            role: Role::Admin,
            installation: false,
            until_s: 0,
        };
        assert!(!person.may(Access::Installation));
        person.installation = true;
        person.role = Role::Viewer;
        assert!(person.may(Access::Installation) && !person.may(Access::Admin));
    }

    #[test]
    fn a_foreign_tenant_looks_like_one_that_does_not_exist() {
        let (own, foreign) = (TenantId::new([1; 16]), TenantId::new([2; 16]));
        let person =
            Person { subject: "k".into(), tenant: own, role: Role::Admin, installation: true, until_s: 0 };
        let caller = Caller::Person(person);
        assert_eq!(caller.tenant(own).unwrap(), own);
        let refused = caller.tenant(foreign).unwrap_err();
        assert_eq!(
            (refused.code(), refused.details()),
            (tonic::Code::NotFound, status::not_found().details())
        );
        assert!(Caller::Anonymous.tenant(own).is_err());
        assert!(Caller::Peer(Peer::Broker).tenant(own).is_err());
    }

    #[test]
    fn only_names_of_our_services_are_peers() {
        assert_eq!(Peer::from_common_name("svc-ota"), Some(Peer::Service(Service::Ota)));
        assert_eq!(Peer::from_common_name("svc-broker"), Some(Peer::Broker));
        for stranger in ["", "svc-otA", "svc-ota ", "dv00000000000000000000000000000000"] {
            assert_eq!(Peer::from_common_name(stranger), None);
        }
    }
}
