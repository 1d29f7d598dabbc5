//! Hostile input for every decoder of external bytes: it must return without a panic, and its memory must be bounded by
//! its input. There is a process per decoder; `tests/fuzz/` has the inputs that once failed.
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

/// The number of inputs per decoder: all together take less than a minute on two cores.
const INPUTS: u64 = 100_000;

fn run(decoder: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fuzz"));
    command.args(["--decoder", decoder]).args(args).output().expect("the fuzzer starts")
}

/// Returns how a decoder failed; none if it did not.
fn failure(decoder: &str, args: &[&str]) -> Option<String> {
    let output = run(decoder, args);
    let output_text = [output.stdout, output.stderr].concat();
    let output_text = String::from_utf8_lossy(&output_text);
    print!("{output_text}");
    if output.status.success() {
        return None;
    }
    let keep = std::env::temp_dir().join(format!("evener-fuzz-{decoder}-last"));
    let args = args.join(" ");
    Some(format!(
        "{decoder}: {}\n{output_text}repeat with: cargo run -p evener-tests --bin fuzz -- --decoder {decoder} {args}\n\
         if it exited without output, add --keep {}; store the input as tests/fuzz/{decoder}-NAME",
        output.status,
        keep.display()
    ))
}

#[test]
fn no_decoder_fails_on_hostile_input() {
    let inputs = std::env::var("EVENER_FUZZ_INPUTS").map_or(INPUTS, |inputs| inputs.parse().unwrap());
    let seed = std::env::var("EVENER_FUZZ_SEED").unwrap_or_else(|_| "1".to_owned());
    let (pending, failures) = (Mutex::new(decoders()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, std::num::NonZero::get) {
            scope.spawn(|| {
                while let Some(decoder) = { pending.lock().unwrap().pop() } {
                    let args = ["--inputs", &inputs.to_string(), "--seed", &seed];
                    failures.lock().unwrap().extend(failure(decoder.name, &args));
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn inputs_that_once_failed_are_decoded_without_failing() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let decoder = decoders().into_iter().find(|decoder| name.starts_with(&format!("{}-", decoder.name)));
        let Some(decoder) = decoder else { panic!("{name} does not begin with the name of a decoder") };
        assert_eq!(failure(decoder.name, &["--file", path.to_str().unwrap()]), None);
    }
}

#[test]
fn an_unknown_decoder_is_rejected() {
    let output = run("no-such-decoder", &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("must be one of"), "{output:?}");
}
