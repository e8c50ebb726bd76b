// SPDX-License-Identifier: Apache-2.0

// Package guest is the inside of a lab host: the first process, and the agent
// that does what the outside asks for over the second serial port.
package guest

import (
	"encoding/json"
	"fmt"
	"os"
)

// Names that the outside and the inside have to agree on.
const (
	// EnvMark is set by the kernel command line: words with "=" that the kernel
	// does not know become the environment of its first process
	// (Documentation/admin-guide/kernel-parameters.rst).
	EnvMark = "LUPATCH_LAB_GUEST"
	// InitPath is where the kernel looks for the first process of an initramfs.
	InitPath = "/init"
	// ConfigPath holds a Config.
	ConfigPath = "/etc/lupatch-lab.json"
	// SerialPort is where the agent is if there is no virtio port. The console
	// is on ttyS0, so that no kernel message gets in between.
	SerialPort = "/dev/ttyS1"
	// VirtioPort is the name of the agent's virtio port.
	VirtioPort = "org.lupatch.lab.0"
)

// Config is what the outside wants done before the agent says hello.
type Config struct {
	Hostname string `json:"hostname"`
	// Virtio puts the agent on VirtioPort instead of SerialPort.
	Virtio bool `json:"virtio,omitempty"`
	// Modules are loaded at boot, in this order; what they depend on comes first.
	Modules []string `json:"modules,omitempty"`
	// Networks are configured whenever an interface with their address appears.
	Networks []Network `json:"networks,omitempty"`
	// ManualNetwork leaves interfaces alone.
	ManualNetwork bool `json:"manual_network,omitempty"`
	// Systemd becomes process 1 once the agent has been started.
	Systemd bool `json:"systemd,omitempty"`
}

// Network says which IPv4 address goes to which interface.
type Network struct {
	MAC     string `json:"mac"`
	Address string `json:"address"` // the prefix has 24 bits
	Gateway string `json:"gateway,omitempty"`
}

func readConfig() (*Config, error) {
	text, err := os.ReadFile(ConfigPath)
	if err != nil {
		return nil, fmt.Errorf("reading the lab host's configuration: %w", err)
	}
	var c Config
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("reading the lab host's configuration: %w", err)
	}
	return &c, nil
}
