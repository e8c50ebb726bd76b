// SPDX-License-Identifier: Apache-2.0

package state

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Vector is an interrupt of the device. Its number is the kernel's choice each
// time a driver is bound, so that vectors are told apart by their index, or by
// the name the driver gave them if it is the only one of that name.
type Vector struct {
	Index int `json:"index"`
	// IRQ is the number it had.
	IRQ int `json:"irq"`
	// Action is the name; empty if nobody has requested it.
	Action string `json:"action,omitempty"`
	// CPUs it may be delivered to, as a list such as 0-1,4 (smp_affinity_list).
	CPUs string `json:"cpus"`
	// Hint is what the driver proposes to irqbalance (affinity_hint), a mask.
	Hint string `json:"hint,omitempty"`
}

// vectors lists the interrupts of the nearest device upwards that has any: those
// of a virtio device are its PCI function's. MSI vectors are allocated in the
// order of their index, and get the lowest numbers that are free
// (Documentation/ABI/testing/sysfs-bus-pci, msi_irqs; __irq_alloc_descs).
func vectors(name string) ([]Vector, error) {
	path, err := filepath.EvalSymlinks(filepath.Join(class, name, "device"))
	if err != nil {
		return nil, err
	}
	var numbers []int
	for ; path != "/sys/devices" && path != "/"; path = filepath.Dir(path) {
		entries, _ := os.ReadDir(filepath.Join(path, "msi_irqs"))
		for _, e := range entries {
			if n, err := strconv.Atoi(e.Name()); err == nil {
				numbers = append(numbers, n)
			}
		}
		if n, err := strconv.Atoi(attribute(filepath.Join(path, "irq"))); len(numbers) == 0 && err == nil && n > 0 {
			numbers = []int{n}
		}
		if len(numbers) > 0 {
			break
		}
	}
	slices.Sort(numbers)
	var out []Vector
	for i, n := range numbers {
		dir := filepath.Join("/proc/irq", strconv.Itoa(n))
		v := Vector{Index: i, IRQ: n, CPUs: attribute(filepath.Join(dir, "smp_affinity_list")), Hint: attribute(filepath.Join(dir, "affinity_hint"))}
		if v.CPUs == "" {
			continue // not set up
		}
		// A line that is shared has a folder for each handler.
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if e.IsDir() {
				v.Action = cmp.Or(v.Action, e.Name())
			}
		}
		out = append(out, v)
	}
	return out, nil
}

// match finds the vector of now that was v.
func match(v Vector, was, now []Vector) *Vector {
	byName := func(list []Vector) (found *Vector) {
		for i := range list {
			if list[i].Action == v.Action {
				if found != nil {
					return nil
				}
				found = &list[i]
			}
		}
		return found
	}
	if v.Action != "" && byName(was) != nil {
		if f := byName(now); f != nil {
			return f
		}
	}
	for i := range now {
		if now[i].Index == v.Index {
			return &now[i]
		}
	}
	return nil
}

// setVector writes the CPUs; an interrupt that the kernel manages, or a
// controller that cannot, gives EIO (write_irq_affinity, kernel/irq/proc.c).
func setVector(v *Vector, cpus string) error {
	path := filepath.Join("/proc/irq", strconv.Itoa(v.IRQ), "smp_affinity_list")
	err := os.WriteFile(path, []byte(cpus), 0)
	if errors.Is(err, unix.EIO) {
		return fmt.Errorf("the kernel manages this interrupt, or its controller cannot choose: %w", err)
	}
	return err
}
