# The commands of every day; `just` lists them.

default:
    @just --list

# format, lints and all tests
test *arguments:
    scripts/test {{arguments}}

# the rules of the tree
tidy:
    cargo test --test tidy

# one test of real processes by name
real name:
    cargo test --test real {{name}} -- --nocapture

# three nodes on this machine
dev *arguments:
    cargo run --release -- dev {{arguments}}

# licences, duplicates, one crypto provider
deny:
    cargo deny check

# the page of all settings
reference:
    cargo run --quiet -- config reference > docs/reference/config.md
