//! A flash operation fails and the power stays: the device goes on, on the same boot, and the service gets there.

use gateway_core::device::STORE_RETRY_MS;
use gateway_core::ports::Geometry;

use crate::flow::with_v1;
use crate::sim::*;

/// Installs v2 over v1 and fails the `at`-th operation, and all until the device was left alone for a while. A deployment
/// that the device gave up is asked for again under a new id.
fn install_with_a_fault(maker: &Maker, bench: &Bench, v2: &Bundle, cut: Option<Cut>) {
    let mut device = bench.boot();
    let mut director = Director::new(maker, bench);
    if let Some(cut) = cut {
        bench.flash.cut(cut);
    }
    for deployment in 10..14 {
        for _ in 0..3 {
            let ended = director.drive(&mut device, v2, deployment, Goal::Ended);
            let running = bench.running();
            assert!(matches!(running.as_deref(), None | Some("v1" | "v2")), "{running:?}");
            if ended {
                break;
            }
            for _ in 0..10 {
                device.poll();
            }
            bench.flash.power_on();
            bench.advance_ms(STORE_RETRY_MS);
        }
        let result = director.result(deployment).unwrap();
        if result.outcome == gateway_core::update::Outcome::Confirmed {
            break;
        }
        assert_eq!(bench.running().as_deref(), Some("v1"), "{result:?}");
    }
    assert_eq!(bench.running().as_deref(), Some("v2"));
    assert_eq!(bench.flash.violations(), [""; 0]);
    assert_eq!(bench.boot().results(), []);
    assert_eq!(bench.running().as_deref(), Some("v2"));
}

fn any_operation_may_fail(geometry: Geometry) {
    let (maker, bench) = with_v1(geometry);
    let v2 = maker.bundle(2).known_on(&bench);
    let whole = bench.fork();
    install_with_a_fault(&maker, &whole, &v2, None);
    let operations = whole.flash.operations() - bench.flash.operations();
    for (at, mode) in (2..operations).flat_map(|at| Mode::ALL.map(|mode| (at, mode))) {
        let bench = bench.fork();
        install_with_a_fault(&maker, &bench, &v2, Some(Cut { at: at - 1, mode }));
    }
}

#[test]
fn a_failing_flash_operation_costs_time_and_not_the_device_on_small_sectors() {
    any_operation_may_fail(SMALL);
}

#[test]
fn a_failing_flash_operation_costs_time_and_not_the_device_on_write_once_flash() {
    any_operation_may_fail(WRITE_ONCE);
}
