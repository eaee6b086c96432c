//! Where the address space for a deep stack is not to be had, a backward pass runs on what there is.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::process::Command;

use candle_core::{Device, Var};

/// The environment variable that tells this binary that it is the child with little address space.
const CHILD: &str = "AUTOCAST_SMALL_MACHINE";

#[test]
fn a_backward_pass_runs_in_little_address_space() {
    if std::env::var_os(CHILD).is_some() {
        let x = Var::new(&[3f32, -1.], &Device::Cpu).unwrap();
        let grads = autocast::backward(x.sqr().unwrap().sum_all().unwrap()).unwrap();
        assert_eq!(grads.get(&x).unwrap().to_vec1::<f32>().unwrap(), [6., -2.]);
        return;
    }
    let this = std::env::current_exe().unwrap();
    // Kilobytes: less than the deep stack and more than the program.
    for limit in [1_000_000, 600_000, 300_000] {
        let limited =
            format!("ulimit -v {limit} && exec \"$0\" --exact a_backward_pass_runs_in_little_address_space");
        let output = Command::new("bash")
            .args(["-c", &limited])
            .arg(&this)
            .args(["--test-threads", "1"])
            .env(CHILD, "1")
            .env("RAYON_NUM_THREADS", "1")
            .env("CANDLE_NUM_THREADS", "1")
            .output()
            .unwrap();
        let said =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{limit} kB: {said}");
    }
}
