//! The binary `evener`, built wherever these tests are.

fn main() -> std::process::ExitCode {
    evener_cli::main()
}
