//! Simulated runs: whole nodes under faults, a process per run. Twenty seeds, and every seed that ever failed
//! (`tests/seeds/`), are run twice each: every promise must hold, and both runs must have the same trace.
#![allow(clippy::unwrap_used, reason = "the panic of a test is its report")]

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output},
    sync::Mutex,
    thread,
};

/// The seeds that are always run.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=20;
/// The virtual time with faults.
const SECONDS: u64 = 20;

struct Case {
    seed: u64,
    seconds: u64,
}

fn run(case: &Case) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    command.args(["--seed", &case.seed.to_string(), "--seconds", &case.seconds.to_string()]);
    command.output().expect("the simulator starts")
}

/// Runs each case twice, on all cores; returns the failures.
fn run_all(cases: Vec<Case>) -> Vec<String> {
    let (pending, failures) = (Mutex::new(cases), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, std::num::NonZero::get) {
            scope.spawn(|| {
                while let Some(case) = { pending.lock().unwrap().pop() } {
                    let (once, again) = (run(&case), run(&case));
                    let stdout = String::from_utf8_lossy(&once.stdout);
                    print!("{stdout}");
                    if !once.status.success() {
                        let stderr = String::from_utf8_lossy(&once.stderr);
                        failures.lock().unwrap().push(format!("seed {}: {}\n{stdout}{stderr}", case.seed, once.status));
                    } else if once.stdout != again.stdout {
                        let other = String::from_utf8_lossy(&again.stdout);
                        failures.lock().unwrap().push(format!("seed {} ran differently:\n{stdout}{other}", case.seed));
                    }
                }
            });
        }
    });
    failures.into_inner().unwrap()
}

#[track_caller]
fn check(cases: Vec<Case>) {
    let failures = run_all(cases);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn p1_p2_p3_p4_p5_p7_p9_hold_for_twenty_seeds_and_both_runs_are_identical() {
    check(SEEDS.map(|seed| Case { seed, seconds: SECONDS }).collect());
}

/// The name of a file is its seed; its first line is `--seconds N`, the rest describes the failure.
#[test]
fn p1_p2_p3_p4_p5_p7_p9_hold_for_seeds_that_once_failed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let cases = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).map(|path| {
        let seed = path.file_stem().unwrap().to_string_lossy().parse().expect("a seed's file is named after it");
        let text = fs::read_to_string(&path).unwrap();
        let seconds = text.lines().next().and_then(|line| line.strip_prefix("--seconds "));
        Case { seed, seconds: seconds.unwrap().parse().unwrap() }
    });
    check(cases.collect());
}

#[test]
fn a_run_of_no_time_needs_no_faults_and_different_seeds_give_different_runs() {
    let short = run(&Case { seed: 1, seconds: 0 });
    assert!(short.status.success(), "a run of 0 s is valid without faults: {}", String::from_utf8_lossy(&short.stdout));
    let hashes: BTreeSet<_> = (1..=2).map(|seed| run(&Case { seed, seconds: 1 }).stdout).collect();
    assert_eq!(hashes.len(), 2);
}
