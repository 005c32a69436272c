module persistip.dev/tests/machines

go 1.26.0
