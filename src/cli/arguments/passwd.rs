//! Arguments of `tidewire passwd`.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `tidewire passwd`.
#[derive(Args, Clone, Debug)]
pub struct PasswdArguments {
    /// Password file, as in `auth.password_file`
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// User whose password is set
    #[arg(value_name = "USER")]
    pub user: String,
    /// Begin a new file, which must not exist
    #[arg(short = 'c', long)]
    pub create: bool,
    /// Delete the user
    #[arg(short = 'D', long, conflicts_with_all = ["create", "password_stdin"])]
    pub delete: bool,
    /// Read the password from the first line of standard input instead of asking for it
    #[arg(long)]
    pub password_stdin: bool,
    /// Rounds of the SCRAM-SHA-256 verifier, at least 4096; 0 leaves it out
    ///
    /// MQTT 5.0 clients can log in by SCRAM with a verifier. It is cheaper to guess passwords from
    /// than the argon2id hash beside it, and clients pay for each round at every login.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = rounds)]
    pub scram_iterations: u32,
}

/// RFC 7677 wants 4096 at least.
fn rounds(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|rounds| *rounds == 0 || (4_096..=10_000_000).contains(rounds))
        .ok_or_else(|| "must be 0 or 4096 to 10000000".into())
}
