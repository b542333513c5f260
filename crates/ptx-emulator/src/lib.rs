//! Runs PTX on the CPU and checks it as it runs, like compute-sanitizer does. For tests.
