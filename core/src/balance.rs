//! The balance plan: who should own which segment. See `plan`.
