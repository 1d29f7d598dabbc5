//! `evener explain [CODE]`

use super::output::{say, table};
use crate::{
    codes::{self, ALL, Code},
    error::ApiError,
    settings::nearest,
};

/// Tell what an error code means; without one, list all
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The code, as EV0123
    code: Option<String>,
}

impl Args {
    /// Tells it.
    pub fn run(self) -> Result<(), ApiError> {
        let Some(code) = self.code else {
            return say(&table(["code", "meaning"], ALL.iter().map(|code| [code.id.into(), code.title.into()])));
        };
        match codes::find(&code) {
            Some(code) => say(&page(code)),
            None => {
                let error = ApiError::new(&codes::UNKNOWN_CODE, format!("there is no error code '{code}'"));
                Err(match nearest(&code.to_ascii_uppercase(), ALL.iter().map(|code| code.id.to_owned())) {
                    Some(near) => error.hint(format!("did you mean {near}? `evener explain` lists all")),
                    None => error,
                })
            }
        }
    }
}

fn page(code: &Code) -> String {
    let class = serde_json::to_string(&code.class).expect("a class is a word");
    format!(
        "{}: {}\n\n{}\n\nnext: {}\n\nclass {}, HTTP status {}, exit status {}\n",
        code.id,
        code.title,
        code.page,
        code.hint,
        class.trim_matches('"'),
        code.status,
        code.exit_code(),
    )
}
