//! One simulated run in its own process: `sim --seed N [--seconds N] [--trace]`.
//!
//! The exit status is 0 if every promise held, 1 if one was broken, and 2 if the run was invalid.

use std::{process::ExitCode, time::Duration};

use evener_tests::sim::{plan::Plan, report::Verdict, run};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let value = |flag: &str| {
        let at = args.iter().position(|arg| arg == flag)?;
        Some(args.get(at + 1).and_then(|number| number.parse().ok()).expect("the flag has a number"))
    };
    let seed = value("--seed").expect("--seed N is required");
    let plan = Plan::new(seed, Duration::from_secs(value("--seconds").unwrap_or(60)));
    if let Ok(filter) = std::env::var("EVENER_LOG") {
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
    }
    let started = std::time::Instant::now();
    let report = run::run(plan, args.iter().any(|arg| arg == "--trace"));
    print!("{report}");
    let took = started.elapsed().as_secs_f64();
    eprintln!("{:.0} times as fast as real time ({took:.1} s)", report.virtual_time.as_secs_f64() / took);
    match report.verdict() {
        Verdict::Held => ExitCode::SUCCESS,
        Verdict::Broken => ExitCode::from(1),
        Verdict::Invalid => ExitCode::from(2),
    }
}
