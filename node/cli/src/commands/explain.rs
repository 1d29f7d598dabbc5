//! `evener explain [CODE]`

use super::output::{say, table, wrapped};
use evener::{
    codes::{self, ALL, Code},
    error::ApiError,
    settings::nearest,
};

/// Explain an error code, or list all codes
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Error code: EV0123, ev123 or 123
    code: Option<String>,
}

impl Args {
    /// Prints the explanation.
    pub(super) fn run(self) -> Result<(), ApiError> {
        let Some(code) = self.code else {
            return say(&table(["code", "meaning"], ALL.iter().map(|code| [code.id.into(), code.title.into()])));
        };
        match codes::find(&codes::full_id(&code)) {
            Some(code) => say(&wrapped(&page(code))),
            None => Err(unknown(&code)),
        }
    }
}

fn unknown(code: &str) -> ApiError {
    let error = ApiError::new(&codes::UNKNOWN_CODE, format!("there is no error code '{code}'"));
    let id = codes::full_id(code);
    // A well-formed code is no typing error, and another number is another error: suggest nothing.
    let formed = id.strip_prefix("EV").is_some_and(|digits| digits.len() == 4 && digits.parse::<u16>().is_ok());
    match nearest(&id, ALL.iter().map(|code| code.id.to_owned())).filter(|_| !formed) {
        Some(near) => error.hint(format!("did you mean {near}? `evener explain` lists all")),
        None => error,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_code_gets_the_nearest_as_a_hint() {
        assert!(unknown("EV0306x").hint.contains("did you mean EV0306?"));
        assert!(unknown("EV06O1").hint.contains("did you mean EV0601?"));
        for no_slip in ["nothing", "EV9999", "9999"] {
            assert_eq!(&*unknown(no_slip).hint, codes::UNKNOWN_CODE.hint);
        }
    }
}
