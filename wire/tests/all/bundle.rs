//! Bundle files hold exactly the layers their manifest names.

use proptest::prelude::*;
use wire::bundle::{self, Bundle, BundleError};
use wire::cbor::CborError;
use wire::sign::ManifestSpec;

use crate::sample::{self, release};

fn file(spec: &ManifestSpec<'_>) -> Vec<u8> {
    spec.sign(&release()).expect("signs").bundle_file(spec)
}

#[test]
fn a_bundle_file_gives_back_its_envelope_and_layers() {
    let layers = sample::layers();
    let spec = sample::manifest(&layers);
    let signed = spec.sign(&release()).expect("signs");
    let file = signed.bundle_file(&spec);
    let bundle = Bundle::read(&file).expect("reads");
    assert_eq!((bundle.envelope, bundle.manifest.digest), (&signed.envelope[..], signed.digest));
    assert_eq!(bundle.layers.as_slice(), layers);
    assert_eq!(bundle.layer(&bundle.manifest.layers[1].digest), Some(&layers[1][..]));
}

#[test]
fn equal_layers_are_in_the_file_once() {
    let layers = vec![vec![1; 100], vec![2; 100], vec![1; 100]];
    let file = file(&sample::manifest(&layers));
    let bundle = Bundle::read(&file).expect("reads");
    assert_eq!(bundle.layers.as_slice(), [vec![1; 100], vec![2; 100]]);
}

#[test]
fn a_file_with_other_layers_is_refused() {
    let layers = sample::layers();
    let spec = sample::manifest(&layers);
    let envelope = spec.sign(&release()).expect("signs").envelope;
    let (one, two) = (&layers[0][..], &layers[1][..]);
    let read = |layers: &[&[u8]]| Bundle::read(&bundle::write(&envelope, layers)).map(drop);
    assert_eq!(read(&[one, two]), Ok(()));
    assert_eq!(read(&[two, one]), Err(BundleError::Layer(0)));
    assert_eq!(read(&[one, &two[1..]]), Err(BundleError::Layer(1)));
    assert_eq!(read(&[one]), Err(BundleError::Cbor(CborError::Truncated)));
    assert_eq!(read(&[one, two, one]), Err(BundleError::Cbor(CborError::Trailing)));
    let mut damaged = two.to_vec();
    damaged[39_999] ^= 1;
    assert_eq!(read(&[one, &damaged]), Err(BundleError::Layer(1)));
}

#[test]
fn a_truncated_file_is_refused() {
    let layers = vec![vec![1; 300]];
    let file = file(&sample::manifest(&layers));
    for length in 0..file.len() {
        assert!(Bundle::read(&file[..length]).is_err());
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_bundle_reader_panic(bytes: Vec<u8>) {
        prop_assert!(Bundle::read(&bytes).is_err());
    }
}
