//! Which layer bytes a device may have: those of the manifests it is directed to now, and no others.

use wire::Digest;
use wire::limits::LAYER_WINDOW_BYTES_MAX;

/// What a device is directed to: the layers of at most two manifests, one a component.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directed {
    pub(crate) layers: Vec<DirectedLayer>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DirectedLayer {
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
    /// S3 key.
    pub(crate) object: std::sync::Arc<str>,
}

/// `LayerUp`, its digest checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) digest: Digest,
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WindowRefusal {
    NotDirected,
    Range,
}

impl Directed {
    /// The layer a window is of, if the device may have it and the window lies inside.
    pub(crate) fn admit(&self, window: Window) -> Result<&DirectedLayer, WindowRefusal> {
        let layer =
            self.layers.iter().find(|l| l.digest == window.digest).ok_or(WindowRefusal::NotDirected)?;
        let end = u64::from(window.offset) + u64::from(window.length);
        let fits =
            window.length > 0 && window.length as usize <= LAYER_WINDOW_BYTES_MAX && end <= layer.bytes;
        if fits { Ok(layer) } else { Err(WindowRefusal::Range) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directed() -> Directed {
        Directed {
            layers: vec![DirectedLayer { digest: Digest([1; 32]), bytes: 200_000, object: "o".into() }],
        }
    }

    fn window(offset: u32, length: u32) -> Window {
        Window { digest: Digest([1; 32]), offset, length }
    }

    #[test]
    fn a_window_inside_a_directed_layer_is_admitted() {
        for good in [window(0, 1), window(0, 131_072), window(199_999, 1), window(100_000, 100_000)] {
            assert!(directed().admit(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_window_outside_the_layer_or_the_credit_is_refused() {
        for bad in [
            window(0, 0),
            window(0, 131_073),
            window(200_000, 1),
            window(199_999, 2),
            window(u32::MAX, u32::MAX),
        ] {
            assert_eq!(directed().admit(bad), Err(WindowRefusal::Range), "{bad:?}");
        }
    }

    #[test]
    fn a_layer_of_no_directed_manifest_is_refused() {
        let other = Window { digest: Digest([2; 32]), ..window(0, 1) };
        assert_eq!(directed().admit(other), Err(WindowRefusal::NotDirected));
        assert_eq!(Directed::default().admit(window(0, 1)), Err(WindowRefusal::NotDirected));
    }
}
