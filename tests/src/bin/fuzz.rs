//! Feeds one decoder with hostile input, all of it made from a seed.
//!
//! ```sh
//! cargo run --release -p evener-tests --bin fuzz -- --decoder entry --inputs 10000000 --seed 1
//! ```
//!
//! Ends with 0 if nothing was found, with 1 if the decoder panicked or took too much memory (the input is kept in the
//! file that is named), and with 3 if it did not return within 20 s. If the process dies (a stack overflow, say),
//! `--keep FILE` writes each input there before it is decoded. `--file FILE` decodes just that one.
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

/// No input takes so long: the longest have 256 KiB.
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
            _ => return Err(format!("there is no flag {flag}: --decoder, --inputs, --seed, --keep and --file")),
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
    // A panic of a decoder is told with the input; what it prints itself would bury that.
    std::panic::set_hook(Box::new(|_| ()));
    if let Some(file) = &args.file {
        judge(&args, &fs::read(file).unwrap(), file);
        println!("decoder {} survives {}", args.decoder.name, file.display());
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

/// Ends the process if one input takes too long: its number repeats it.
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
