//! The binary `evener`.

fn main() -> std::process::ExitCode {
    evener_cli::main()
}
