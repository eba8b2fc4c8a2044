//! Signed objects that Python made from docs/bundle.md (python/make_frozen.py), read by our decoder.

use wire::cose::P256;
use wire::directive::{self, Directive, Order, Target};
use wire::keyset::{self, Provisioned};
use wire::manifest::{self, Component};
use wire::sign::Signer;
use wire::{Digest, KeyHash};

use crate::sample::{self, DEPLOYMENT, DEVICE, NONCE, TENANT, director, release, roots, unhex};

#[test]
fn a_manifest_made_in_python_is_ours_but_for_its_signature() {
    let theirs = unhex(include_str!("../frozen/manifest.suit.hex"));
    let layers = sample::layers();
    let ours = sample::manifest(&layers).sign(&release()).expect("signs");
    let manifest = manifest::open_with_key(&theirs, &release().public_key(), &P256).expect("opens");
    assert_eq!(manifest, manifest::read(&ours.envelope).expect("reads"));
    assert_eq!(theirs.len(), ours.envelope.len());
}

#[test]
fn a_directive_made_in_python_opens() {
    let theirs = unhex(include_str!("../frozen/directive.cose.hex"));
    let directive = directive::open(&theirs, &director().public_key(), &DEVICE, &NONCE, &P256);
    let target = Target { manifest: Digest([0x3d; 32]), deployment: DEPLOYMENT, component: Component::App };
    let order = Order::Install(target);
    assert_eq!(directive, Ok(Directive { device: DEVICE, nonce: NONCE, issued_at_s: 1_790_000_000, order }));
}

#[test]
fn a_keyset_made_in_python_opens_with_both_its_signatures() {
    let theirs = unhex(include_str!("../frozen/keyset.cose.hex"));
    let hashes: Vec<KeyHash> = roots(2).iter().map(|key| key.hash().expect("on the curve")).collect();
    let provisioned = Provisioned { root_key_hashes: &hashes, threshold: 2 };
    let keyset = keyset::open_first(&theirs, &provisioned, &P256).expect("opens");
    assert_eq!((keyset.tenant, keyset.version, keyset.root_keys.as_slice()), (TENANT, 1, &roots(2)[..]));
    assert_eq!(keyset.director_key, director().public_key());
}
