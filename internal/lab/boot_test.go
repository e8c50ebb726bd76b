// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"testing"

	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
)

func TestTry(t *testing.T) {
	h := labtest.Boot(t, lab.Config{NICs: []lab.NIC{{Model: "e1000"}}})
	t.Log(labtest.Sh(t, h, "uname -a; ls /; lsmod; ip addr; dmesg | tail -5; ps; time true"))
	i, err := h.WaitNetwork(t.Context(), "eth0")
	t.Log(i, err, h.ConsoleFaults())
	t.Log(h.Console())
}
