//! Signing directives, as svc-ota does with the director key.

use alloc::vec::Vec;

use super::{ReadBack, SignError, Signer, sign1};
use crate::cbor::Writer;
use crate::directive::{self, CONTENT_TYPE, Directive, Order, SOURCE_MQTT, Target, key, kind};

/// A directive as a COSE_Sign1 by the director key.
pub fn sign_directive(directive: &Directive, director: &dyn Signer) -> Result<Vec<u8>, SignError> {
    let signed = sign1(director, Some(CONTENT_TYPE), &payload(directive), true)?;
    directive::open_any(&signed, &director.public_key(), &ReadBack(director))
        .map_err(SignError::Directive)?;
    Ok(signed)
}

fn payload(directive: &Directive) -> Vec<u8> {
    let (kind, pairs) = match directive.order {
        Order::Install(_) => (kind::INSTALL, 8),
        Order::Go(_) => (kind::GO, 7),
        Order::Commit(..) => (kind::COMMIT, 8),
        Order::Time => (kind::TIME, 4),
        Order::Cancel(_) => (kind::CANCEL, 7),
    };
    let mut writer = Writer::new();
    writer.map(pairs);
    writer.int(key::KIND).uint(kind);
    writer.int(key::DEVICE).text(&directive.device.text());
    writer.int(key::NONCE).bytes(&directive.nonce.0);
    writer.int(key::ISSUED_AT).uint(directive.issued_at_s);
    if let Some(target) = directive.order.target() {
        write_target(&mut writer, target);
    }
    match directive.order {
        Order::Commit(_, counter) => writer.int(key::SECURITY_COUNTER).uint(counter),
        Order::Install(_) => writer.int(key::SOURCES).array(1).text(SOURCE_MQTT),
        _ => &mut writer,
    };
    writer.into_vec()
}

fn write_target(writer: &mut Writer, target: &Target) {
    writer.int(key::MANIFEST).bytes(&target.manifest.0);
    writer.int(key::DEPLOYMENT).text(&target.deployment.text());
    writer.int(key::COMPONENT).text(target.component.name());
}
