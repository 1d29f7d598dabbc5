//! Every decoder of bytes that come from outside survives hostile input: it does not panic, it returns, and its memory
//! is bounded by its input. A process per decoder; inputs that failed once are in `tests/fuzz/` and are decoded first.
//!
//! ```sh
//! EVENER_FUZZ_INPUTS=10000000 cargo test --release -p evener-tests --test fuzz -- --nocapture
//! ```
#![allow(clippy::unwrap_used, reason = "the panic of a test is its report")]

use std::{
    fs,
    process::{Command, Output},
    sync::Mutex,
    thread,
};

use evener_tests::fuzz::decoders;

/// For each decoder: together they take less than a minute on two cores.
const INPUTS: u64 = 100_000;

fn run(decoder: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fuzz"));
    command.args(["--decoder", decoder]).args(args).output().expect("the fuzzer starts")
}

/// What is wrong with a decoder, if anything.
fn fails(decoder: &str, args: &[&str]) -> Option<String> {
    let output = run(decoder, args);
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    print!("{said}");
    if output.status.success() {
        return None;
    }
    let keep = std::env::temp_dir().join(format!("evener-fuzz-{decoder}-last"));
    let args = args.join(" ");
    Some(format!(
        "{decoder}: {}\n{said}repeat it with: cargo run -p evener-tests --bin fuzz -- --decoder {decoder} {args}\n\
         if it ended without a word, add --keep {}; put the input into tests/fuzz/{decoder}-NAME",
        output.status,
        keep.display()
    ))
}

#[test]
fn every_decoder_survives_hostile_input() {
    let inputs = std::env::var("EVENER_FUZZ_INPUTS").map_or(INPUTS, |inputs| inputs.parse().unwrap());
    let seed = std::env::var("EVENER_FUZZ_SEED").unwrap_or_else(|_| "1".to_owned());
    let (waiting, wrong) = (Mutex::new(decoders()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, std::num::NonZero::get) {
            scope.spawn(|| {
                while let Some(decoder) = { waiting.lock().unwrap().pop() } {
                    let args = ["--inputs", &inputs.to_string(), "--seed", &seed];
                    wrong.lock().unwrap().extend(fails(decoder.name, &args));
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_input_that_failed_once_is_survived() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let decoder = decoders().into_iter().find(|decoder| name.starts_with(&format!("{}-", decoder.name)));
        let Some(decoder) = decoder else { panic!("{name} begins with no decoder's name") };
        assert_eq!(fails(decoder.name, &["--file", path.to_str().unwrap()]), None);
    }
}

#[test]
fn a_decoder_that_fails_is_told() {
    let output = run("no-such-decoder", &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("must be one of"), "{output:?}");
}
