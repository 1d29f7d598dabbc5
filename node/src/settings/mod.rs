//! What an operator can set. One table, [`TABLE`]: name, flag, variable, unit, default and reason of each; `--help`,
//! `evener config` and the reference page are made from it. Flags go before `EVENER_SECTION__KEY`, before
//! `evener.toml`, before defaults; [`Loaded`] knows where each value came from.

mod table;
mod value;

mod check;
mod load;

pub use load::{Loaded, Origin, SettingRow, Sources, nearest};
pub use table::{Setting, Settings, TABLE};
pub use value::{Address, LogFormat, Size, Value};
