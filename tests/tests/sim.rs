//! Simulated runs: three whole nodes under faults, a process per run. Twenty seeds, and every seed that ever failed
//! (`tests/seeds/`), each run twice: every promise holds, and the same seed gives the same run to the last line.
#![allow(clippy::unwrap_used, reason = "the panic of a test is its report")]

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output},
    sync::Mutex,
    thread,
};

/// Seeds of every build.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=20;
/// Virtual time with faults.
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

/// Each case twice, on all cores. Answers what was wrong with any.
fn run_all(cases: Vec<Case>) -> Vec<String> {
    let (waiting, wrong) = (Mutex::new(cases), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, std::num::NonZero::get) {
            scope.spawn(|| {
                while let Some(case) = { waiting.lock().unwrap().pop() } {
                    let (once, again) = (run(&case), run(&case));
                    let told = String::from_utf8_lossy(&once.stdout);
                    print!("{told}");
                    if !once.status.success() {
                        let stderr = String::from_utf8_lossy(&once.stderr);
                        wrong.lock().unwrap().push(format!("seed {}: {}\n{told}{stderr}", case.seed, once.status));
                    } else if once.stdout != again.stdout {
                        let other = String::from_utf8_lossy(&again.stdout);
                        wrong.lock().unwrap().push(format!("seed {} ran differently:\n{told}{other}", case.seed));
                    }
                }
            });
        }
    });
    wrong.into_inner().unwrap()
}

#[track_caller]
fn check(cases: Vec<Case>) {
    let wrong = run_all(cases);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn p1_p2_p3_p4_p5_p7_p9_twenty_seeds_hold_and_run_twice_alike() {
    check(SEEDS.map(|seed| Case { seed, seconds: SECONDS }).collect());
}

/// A file's name is its seed; its first line says `--seconds N`, the rest tells its story.
#[test]
fn p1_p2_p3_p4_p5_p7_p9_seeds_that_once_failed_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let cases = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).map(|path| {
        let seed = path.file_stem().unwrap().to_string_lossy().parse().expect("a seed's file is named by it");
        let text = fs::read_to_string(&path).unwrap();
        let seconds = text.lines().next().and_then(|line| line.strip_prefix("--seconds "));
        Case { seed, seconds: seconds.unwrap().parse().unwrap() }
    });
    check(cases.collect());
}

/// A run that shows nothing says so, and other seeds are other runs.
#[test]
fn too_short_a_run_is_invalid_and_seeds_differ() {
    let short = run(&Case { seed: 1, seconds: 0 });
    assert!(short.status.success(), "nothing was to be shown in no time: {}", String::from_utf8_lossy(&short.stdout));
    let hashes: BTreeSet<_> = (1..=2).map(|seed| run(&Case { seed, seconds: 1 }).stdout).collect();
    assert_eq!(hashes.len(), 2);
}
