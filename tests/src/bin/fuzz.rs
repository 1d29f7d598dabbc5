//! Feeds hostile input to one decoder, all of it generated from a seed.
//!
//! ```sh
//! cargo run --release -p evener-tests --bin fuzz -- --decoder entry --inputs 10000000 --seed 1
//! ```
//!
//! Exits with 0 if no failure was found, with 1 if the decoder panicked or used too much memory (the input is written
//! to a file, which is printed), and with 3 if it did not return within 20 s. For failures that abort the process, such
//! as a stack overflow, `--keep FILE` writes each input there before it is decoded. `--file FILE` decodes that file
//! only.
#![allow(clippy::unwrap_used, reason = "a panic in the harness is its report")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::exit,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use evener_core::fuzz::Decoder;
use evener_tests::fuzz::{
    decoder, decoders,
    mutate::Mutator,
    run::{self, Memory},
};
use peak_alloc::PeakAlloc;

#[global_allocator]
static PEAK: PeakAlloc = PeakAlloc;

/// The timeout of one input: even the longest, of 256 KiB, takes much less.
const HANG: Duration = Duration::from_secs(20);

struct Counted;

impl Memory for Counted {
    fn begin(&self) -> usize {
        PEAK.reset_peak_usage();
        PEAK.current_usage()
    }

    fn peak(&self) -> usize {
        PEAK.peak_usage()
    }
}

struct Args {
    decoder: Decoder,
    inputs: u64,
    seed: u64,
    keep: Option<PathBuf>,
    file: Option<PathBuf>,
}

fn args() -> Result<Args, String> {
    let (mut name, mut inputs, mut seed, mut keep, mut file) = (None, 1_000_000, 1, None, None);
    let mut given = std::env::args().skip(1);
    while let Some(flag) = given.next() {
        let value = given.next().ok_or_else(|| format!("{flag} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|error| format!("{flag} {value}: {error}"));
        match flag.as_str() {
            "--decoder" => name = Some(value),
            "--inputs" => inputs = number()?,
            "--seed" => seed = number()?,
            "--keep" => keep = Some(value.into()),
            "--file" => file = Some(value.into()),
            _ => {
                return Err(format!(
                    "unknown flag {flag}; the flags are --decoder, --inputs, --seed, --keep and --file"
                ));
            }
        }
    }
    let names = || decoders().iter().map(|decoder| decoder.name).collect::<Vec<_>>().join(", ");
    let decoder = name.as_deref().and_then(decoder).ok_or_else(|| format!("--decoder must be one of: {}", names()))?;
    Ok(Args { decoder, inputs, seed, keep, file })
}

fn main() {
    let args = args().unwrap_or_else(|why| {
        eprintln!("{why}");
        exit(2)
    });
    let samples = (args.decoder.samples)();
    // A panic is reported with its input; the output of the default hook would hide that.
    std::panic::set_hook(Box::new(|_| ()));
    if let Some(file) = &args.file {
        judge(&args, &fs::read(file).unwrap(), file);
        println!("decoder {} accepts or rejects {} without failing", args.decoder.name, file.display());
        return;
    }
    let (begun, done) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    watch(&args, done.clone());
    let (mut slowest, mut largest) = (Duration::ZERO, 0);
    let mut mutator = Mutator::new(args.seed, samples);
    for _ in 0..args.inputs {
        let input = mutator.input();
        if let Some(keep) = &args.keep {
            fs::write(keep, &input).unwrap();
        }
        let kept = std::env::temp_dir().join(format!("evener-fuzz-{}-{}", args.decoder.name, args.seed));
        let effort = judge(&args, &input, &kept);
        (slowest, largest) = (slowest.max(effort.time), largest.max(effort.memory));
        done.fetch_add(1, Relaxed);
    }
    println!(
        "decoder {} seed {}: {} inputs in {:.1?}, slowest {slowest:.1?}, most memory {largest} bytes",
        args.decoder.name,
        args.seed,
        args.inputs,
        begun.elapsed()
    );
}

fn judge(args: &Args, input: &[u8], kept: &Path) -> run::Effort {
    run::one(&args.decoder, input, &Counted).unwrap_or_else(|why| {
        fs::write(kept, input).unwrap();
        println!("decoder {} seed {}: {why}\nthe input is in {}", args.decoder.name, args.seed, kept.display());
        exit(1)
    })
}

/// Exits if one input takes too long, and prints its number, with which it can be generated again.
fn watch(args: &Args, done: Arc<AtomicU64>) {
    let (name, seed) = (args.decoder.name, args.seed);
    thread::spawn(move || {
        let mut last = u64::MAX;
        loop {
            let now = done.load(Relaxed);
            if now == last {
                println!("decoder {name} seed {seed}: input {now} has not been decoded within {HANG:?}");
                exit(3);
            }
            last = now;
            thread::park_timeout(HANG);
        }
    });
}
