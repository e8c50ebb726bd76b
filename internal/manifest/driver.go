// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/lupatch/lupatch/internal/kmodule"
	"github.com/lupatch/lupatch/internal/refuse"
)

// DriverSuffix is what is put behind the name of a driver's file for that of its
// manifest: the driver itself is not altered, since its signature would break.
const DriverSuffix = ".lupatch.json"

// Driver is what an update by a whole module says of it.
type Driver struct {
	// SHA256 of the module's file in hex, without a signature appended to it: file
	// and manifest belong together.
	SHA256 string `json:"sha256"`
	// BuildID of the module in hex. That of its unit is the replaced one's.
	BuildID string `json:"build_id"`
	// Class is the kind of devices it drives, as far as its calls tell: net, block,
	// sound, or nothing.
	Class string `json:"class,omitempty"`
	// Version and SrcVersion are what the module says of itself; often nothing.
	Version    string `json:"version,omitempty"`
	SrcVersion string `json:"srcversion,omitempty"`
	// Private is the room in bytes that it asks for behind each network device,
	// PrivateBefore what the replaced one asks for; 0 if unknown.
	Private       uint64 `json:"private,omitempty"`
	PrivateBefore uint64 `json:"private_before,omitempty"`
	// Devices are the patterns of devices that it claims.
	Devices []string `json:"devices"`
}

// Digest is the SHA-256 in hex of a driver's file as a manifest has it.
func Digest(image []byte) string {
	sum := sha256.Sum256(Unsigned(image))
	return hex.EncodeToString(sum[:])
}

// classes tell by what a module imports which class of devices it has.
var classes = []struct{ symbol, class string }{
	{"alloc_etherdev_mqs", "net"}, {"alloc_netdev_mqs", "net"}, {"devm_alloc_etherdev_mqs", "net"},
	{"register_netdev", "net"}, {"register_netdevice", "net"}, {"devm_register_netdev", "net"},
	{"__blk_mq_alloc_disk", "block"}, {"__blk_alloc_disk", "block"}, {"__alloc_disk_node", "block"},
	{"snd_card_new", "sound"}, {"snd_devm_card_new", "sound"},
}

// ForDriver makes the manifest of a module file that replaces a driver. What the
// module does not say itself (source, tools, the replaced binary) is left empty or
// taken from it as far as possible; created is when that file was made. Every error
// is a refuse.NotAnUpdate.
func ForDriver(image []byte, created time.Time) (*Manifest, error) {
	info, err := kmodule.ParseInfo(image)
	if err != nil {
		return nil, refuse.New(refuse.NotAnUpdate, "", "it is not a kernel module: %s", err)
	}
	facts, err := kmodule.Examine(image)
	if err != nil {
		return nil, refuse.New(refuse.NotAnUpdate, "", "it cannot be read: %s", err)
	}
	release, _, _ := strings.Cut(info.Vermagic, " ")
	switch {
	case info.Livepatch:
		return nil, refuse.New(refuse.NotAnUpdate, "", "it is a livepatch that lupatch did not make")
	case info.Name == "" || release == "":
		return nil, refuse.New(refuse.NotAnUpdate, "", "the module does not say its name or the kernel it is for")
	case facts.BuildID == "":
		return nil, refuse.New(refuse.NotAnUpdate, "", "the module has no build id, by which it could be told from the one that runs")
	}
	d := &Driver{SHA256: Digest(image), BuildID: facts.BuildID, Version: info.Version, SrcVersion: info.SrcVersion, Private: facts.Private, Devices: info.Aliases}
	if d.Devices == nil {
		d.Devices = []string{}
	}
	for _, c := range classes {
		if facts.Imported(c.symbol) != nil {
			d.Class = c.class
			break
		}
	}
	m := &Manifest{
		Schema: Schema, Name: DriverName(info.Name, facts.BuildID[:8]), Method: "driver", Release: release,
		Created: created.UTC().Truncate(time.Second), Class: ClassInstances,
		Source: Source{SHA256: d.SHA256, Files: []string{}},
		Tools:  Tools{Compiler: facts.Compiler},
		Units:  []Unit{{Name: info.Name, Gives: 1, Functions: []Function{}, Driver: d}},
	}
	return m, m.Validate()
}

var notInName = regexp.MustCompile(`[^a-z0-9]+`)

// DriverName makes the name of an update out of a module's name and its version:
// several versions of one driver are several updates.
func DriverName(module, version string) string {
	name := strings.Trim(notInName.ReplaceAllString(strings.ToLower(module+"_"+version), "_"), "_")
	if !reName.MatchString(name) {
		name = "driver_" + name
	}
	return strings.TrimRight(name[:min(len(name), MaxName)], "_")
}

// ReadDriver reads a driver's module file at path, and its manifest beside it
// (path with DriverSuffix); without one it is derived from the module alone. An
// error is that of the file system, or a refuse.NotAnUpdate that has path as its
// place: also for a file that is not the one its manifest names. A livepatch of
// lupatch is refused, too.
func ReadDriver(path string) (image []byte, m *Manifest, err error) {
	defer func() {
		if err != nil {
			image, m, err = nil, nil, at(err, path)
		}
	}()
	if image, err = readFile(path); err != nil {
		return nil, nil, err
	}
	if _, err := findSection(Unsigned(image)); err == nil {
		return nil, nil, refuse.New(refuse.NotAnUpdate, "", "it is a livepatch, not a driver")
	}
	st, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	derived, err := ForDriver(image, st.ModTime())
	if err != nil {
		return nil, nil, err
	}
	text, err := os.ReadFile(path + DriverSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return image, derived, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading the driver's manifest: %w", err)
	}
	if m, err = Decode(text); err != nil {
		return nil, nil, err
	}
	return image, m, m.describes(derived)
}

// describes checks that a manifest speaks of the module from which the other was
// derived.
func (m *Manifest) describes(derived *Manifest) error {
	if m.Method != "driver" {
		return refuse.New(refuse.NotAnUpdate, "", "the manifest beside it is that of a %s", m.Method)
	}
	u, d := m.Units[0], derived.Units[0]
	if u.Driver.SHA256 != d.Driver.SHA256 {
		return refuse.New(refuse.NotAnUpdate, "", "it is not the file that the manifest beside it (%s) describes: their digests differ", DriverSuffix)
	}
	if u.Name != d.Name || m.Release != derived.Release || u.Driver.BuildID != d.Driver.BuildID {
		return refuse.New(refuse.NotAnUpdate, "", "the manifest beside it says %s for %s, the module %s for %s", u.Name, m.Release, d.Name, derived.Release)
	}
	return nil
}

// ReadUpdate reads an update of either method: a livepatch, or a driver with a
// manifest beside it or none. Errors are those of ReadModule and ReadDriver.
func ReadUpdate(path string) (image []byte, m *Manifest, err error) {
	if image, err = readFile(path); err != nil {
		return nil, nil, at(err, path)
	}
	if isPlainModule(image) {
		return ReadDriver(path)
	}
	return ReadModule(path)
}

// isPlainModule says whether a file is a module that lupatch has not put a manifest
// into.
func isPlainModule(image []byte) bool {
	body := Unsigned(image)
	if bytes.Contains(body, []byte("\x00"+Section+"\x00")) {
		return false // also one of which the headers are damaged
	}
	info, err := kmodule.ParseInfo(body)
	return err == nil && !info.Livepatch && cmp.Or(info.Vermagic, info.Name) != ""
}
