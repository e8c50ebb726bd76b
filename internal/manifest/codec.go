// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"github.com/lupatch/lupatch/internal/refuse"
)

// MaxSize bounds the JSON of a manifest. The largest part is the list of
// relocations, about 100 bytes each; an update of a thousand functions stays
// well below it, and a reader never allocates more than this for a foreign file.
const MaxSize = 4 << 20

// Encode writes m as JSON that ends with a newline. It fails on a manifest that
// Decode would not read, so that a defect shows when an update is built and not
// on the host that should apply it. It sets no field.
func Encode(m *Manifest) ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(m); err != nil {
		return nil, err
	}
	if b.Len() > MaxSize {
		return nil, refuse.New(refuse.NotAnUpdate, m.Name, "the manifest has %d bytes, the limit is %d", b.Len(), MaxSize)
	}
	return b.Bytes(), nil
}

// Decode reads the JSON of a manifest and checks it. It accepts no unknown
// fields, no data after the object and nothing above MaxSize. Every error is a
// refuse.NotAnUpdate.
func Decode(data []byte) (*Manifest, error) {
	if len(data) > MaxSize {
		return nil, refuse.New(refuse.NotAnUpdate, "", "the manifest has %d bytes, the limit is %d", len(data), MaxSize)
	}
	// The schema is read first and loosely: what a newer lupatch wrote should be
	// reported as newer, not as a field that is not known.
	var head struct {
		Schema *int `json:"schema"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, notJSON(err)
	}
	if head.Schema == nil || *head.Schema < 1 {
		return nil, refuse.New(refuse.NotAnUpdate, "", "the manifest does not say which schema it follows")
	}
	if *head.Schema > Schema {
		e := refuse.New(refuse.NotAnUpdate, "", "it was made by a newer lupatch: its manifest has schema %d, this one reads up to %d", *head.Schema, Schema)
		e.Remedy = "use the lupatch that made it, or a newer one"
		return nil, e
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	m := new(Manifest)
	if err := dec.Decode(m); err != nil {
		return nil, notJSON(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, refuse.New(refuse.NotAnUpdate, "", "there is data after the manifest")
	}
	if err := m.Validate(); err != nil {
		return nil, err
	}
	return m, nil
}

func notJSON(err error) error {
	return refuse.New(refuse.NotAnUpdate, "", "the manifest cannot be read: %s", err)
}
