// SPDX-License-Identifier: Apache-2.0

package bpf

// The object is committed, so that building lupatch needs no clang. The sums
// let a test find a source that was changed without `make generate`.
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -cc clang -type task_head -type task_has tasks tasks.bpf.c -- -O2 -Wall -Werror
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -cc clang -type capture_key -type capture_request -type capture_call -type capture_interface capture capture.bpf.c -- -O2 -Wall -Werror
//go:generate sed -i "1i // SPDX-License-Identifier: Apache-2.0" tasks_bpfel.go capture_bpfel.go
//go:generate sh -c "sha256sum tasks.bpf.c tasks_bpfel.o capture.bpf.c capture.bpf.h capture_bpfel.o > objects.sha256"
