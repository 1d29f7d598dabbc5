//! The binary `evener`: everything is in the library's `cli`.

fn main() -> std::process::ExitCode {
    evener::cli::main()
}
