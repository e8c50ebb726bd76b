// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

var native = binary.NativeEndian

// readNetlink makes all queries, in the namespace of the calling thread.
func readNetlink(ctx context.Context, name string, into Settings) error {
	c, err := genetlink.Dial(nil)
	if err != nil {
		return fmt.Errorf("opening a netlink socket: %w", err)
	}
	defer c.Close()
	family, err := c.GetFamily("ethtool")
	if err != nil {
		return fmt.Errorf("looking for ethtool's netlink: %w", err)
	}
	for _, q := range queries {
		if err := ctx.Err(); err != nil {
			return err
		}
		fields, err := ask(c, family, q, name)
		if unsupported(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", q.setting, err)
		}
		if len(fields) > 0 {
			into[q.setting] = fields
		}
	}
	return nil
}

// unsupported: the driver does not have it, or the kernel does not know the
// message.
func unsupported(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, errors.ErrUnsupported)
}

// ask reads one setting. The header names the interface
// (ETHTOOL_A_HEADER_DEV_NAME, 2).
func ask(c *genetlink.Conn, family genetlink.Family, q query, name string) (map[string]string, error) {
	e := netlink.NewAttributeEncoder()
	e.Nested(1, func(e *netlink.AttributeEncoder) error {
		e.String(2, name)
		return nil
	})
	body, err := e.Encode()
	if err != nil {
		return nil, err
	}
	const version = 1 // ETHTOOL_GENL_VERSION
	answers, err := c.Execute(genetlink.Message{Header: genetlink.Header{Command: q.message, Version: version}, Data: body}, family.ID, netlink.Request)
	if err != nil {
		return nil, err
	}
	if len(answers) != 1 {
		return nil, fmt.Errorf("%d answers", len(answers))
	}
	return fieldsOf(q, answers[0].Data)
}

func fieldsOf(q query, data []byte) (map[string]string, error) {
	d, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for d.Next() {
		field := fmt.Sprintf("attribute %d", d.Type())
		if i := int(d.Type()) - 2; i < 0 {
			continue // the header
		} else if i < len(q.fields) {
			field = q.fields[i]
		}
		if field == "-" {
			continue
		}
		value, err := valueOf(d.TypeFlags()&netlink.Nested != 0, d.Bytes())
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", field, err)
		}
		if q.setting == "features" { // the mask is all features that there are
			value, _, _ = strings.Cut(value, " of ")
		}
		out[field] = value
	}
	if err := d.Err(); err != nil {
		return nil, err
	}
	return out, nil
}

// valueOf is a number, a bit set, or bytes. Numbers are told by their length:
// every attribute of these messages that is not nested is a number or a password.
func valueOf(nested bool, b []byte) (string, error) {
	switch {
	case nested:
		return bitset(b)
	case len(b) == 1:
		return strconv.Itoa(int(b[0])), nil
	case len(b) == 2:
		return strconv.Itoa(int(native.Uint16(b))), nil
	case len(b) == 4:
		return strconv.FormatUint(uint64(native.Uint32(b)), 10), nil
	case len(b) == 8:
		return strconv.FormatUint(native.Uint64(b), 10), nil
	}
	return digest(b), nil // the password of wake-on-lan
}

// Attributes of a bit set (ETHTOOL_A_BITSET_ and ETHTOOL_A_BITSET_BIT_).
const (
	bitsetNoMask = 1
	bitsetBits   = 3
	bitIndex     = 1
	bitName      = 2
	bitValue     = 3
)

// bitset gives the names of the bits that are set; of one with a mask, what is set
// first, and then what could be.
func bitset(b []byte) (string, error) {
	d, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return "", err
	}
	var on, all []string
	masked, whole := true, false
	for d.Next() {
		switch d.Type() {
		case bitsetNoMask:
			masked = false
		case bitsetBits:
			whole = true
			d.Nested(func(d *netlink.AttributeDecoder) error {
				for d.Next() {
					d.Nested(func(d *netlink.AttributeDecoder) error {
						name, value := bit(d)
						all = append(all, name)
						if value {
							on = append(on, name)
						}
						return nil
					})
				}
				return nil
			})
		}
	}
	if err := d.Err(); err != nil {
		return "", err
	}
	if !whole {
		return fmt.Sprintf("%x", b), nil
	}
	// A list without mask has the bits that are set only, and no values.
	if !masked {
		return braces(all), nil
	}
	return braces(on) + " of " + braces(all), nil
}

func bit(d *netlink.AttributeDecoder) (name string, value bool) {
	for d.Next() {
		switch d.Type() {
		case bitIndex:
			if name == "" {
				name = strconv.FormatUint(uint64(d.Uint32()), 10)
			}
		case bitName:
			if s := d.String(); s != "" && utf8.ValidString(s) {
				name = s
			}
		case bitValue:
			value = true
		}
	}
	return name, value
}

func braces(list []string) string {
	list = slices.Clone(list)
	slices.Sort(list)
	return "{" + strings.Join(list, " ") + "}"
}
