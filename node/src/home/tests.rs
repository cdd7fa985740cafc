//! Tests of the home's layout and protection.
