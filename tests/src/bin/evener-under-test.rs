//! The binary `evener`, built with the tests.

fn main() -> std::process::ExitCode {
    evener_cli::main()
}
