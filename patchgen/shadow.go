// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"debug/dwarf"
	"fmt"
	"hash/fnv"
	"strings"
)

// shadowCode writes C code that keeps new members of a structure beside its
// instances, in a shadow variable (include/linux/livepatch.h, since 5.0 with
// these arguments). A shadow variable starts as zeros.
func shadowCode(s *dwarf.StructType, new []field) string {
	names := make([]string, len(new))
	var members strings.Builder
	for i, f := range new {
		names[i] = f.name
		fmt.Fprintf(&members, "\t%s;\n", declaration(f.typ, f.name)+bitWidth(f))
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %s", fullName(s), strings.Join(names, " "))
	name := s.StructName + "_shadow"
	return strings.NewReplacer("MEMBERS", members.String(), "STRUCT", fullName(s), "NAME", name,
		"ID", strings.ToUpper(name)+"_ID", "SUM", fmt.Sprintf("%#x", h.Sum64()), "FIELD", new[0].name).Replace(`#include <linux/livepatch.h>
#include "kpatch-macros.h"

#define ID SUMUL

struct NAME {
MEMBERS};

/* What belongs to an instance; zeros at first, NULL if there is no memory. */
static struct NAME *NAME(STRUCT *obj)
{
	return klp_shadow_get_or_alloc(obj, ID, sizeof(struct NAME), GFP_ATOMIC, NULL, NULL);
}

static void NAME_drop(patch_object *unused)
{
	klp_shadow_free_all(ID, NULL);
}
KPATCH_POST_UNPATCH_CALLBACK(NAME_drop);

/*
 * Instead of obj->FIELD:
 *	struct NAME *more = NAME(obj);
 *	if (more)
 *		more->FIELD = …;
 * and where an instance is freed:
 *	klp_shadow_free(obj, ID, NULL);
 */
`)
}

func bitWidth(f field) string {
	if f.bits > 0 {
		return fmt.Sprintf(" : %d", f.bits)
	}
	return ""
}

// declaration writes a member of a type as C has it.
func declaration(t dwarf.Type, name string) string {
	switch t := t.(type) {
	case *dwarf.QualType:
		if inner, ok := t.Type.(*dwarf.ArrayType); ok {
			// What qualifies an array qualifies its elements.
			elements := *inner
			elements.Type = &dwarf.QualType{Qual: t.Qual, Type: inner.Type}
			return declaration(&elements, name)
		}
		if _, ok := bare(t.Type).(*dwarf.PtrType); ok {
			return declaration(t.Type, t.Qual+" "+name)
		}
		return t.Qual + " " + declaration(t.Type, name)
	case *dwarf.PtrType:
		switch inner := t.Type.(type) {
		case *dwarf.FuncType:
			return functionDecl(inner, "(*"+name+")")
		case *dwarf.ArrayType:
			return declaration(inner, "(*"+name+")")
		}
		return declaration(t.Type, "*"+name)
	case *dwarf.ArrayType:
		return declaration(t.Type, fmt.Sprintf("%s[%d]", name, max(t.Count, 0)))
	case *dwarf.StructType:
		if t.StructName == "" {
			return opaqueBytes(t.ByteSize, name)
		}
		return t.Kind + " " + t.StructName + " " + name
	case *dwarf.EnumType:
		if t.EnumName == "" {
			return "int " + name
		}
		return "enum " + t.EnumName + " " + name
	case *dwarf.BoolType:
		return "bool " + name
	case *dwarf.VoidType, nil:
		return "void " + name
	case *dwarf.TypedefType:
		return t.Name + " " + name
	}
	if n := t.Common().Name; n != "" {
		return n + " " + name
	}
	return opaqueBytes(t.Size(), name)
}

// opaqueBytes stands for a type without a name.
func opaqueBytes(size int64, name string) string {
	return fmt.Sprintf("unsigned char %s[%d] __aligned(8)", name, size)
}

// functionDecl writes a function's declaration around what stands for its name.
func functionDecl(f *dwarf.FuncType, name string) string {
	var params []string
	for _, p := range f.ParamType {
		if _, dots := p.(*dwarf.DotDotDotType); dots {
			params = append(params, "...")
			continue
		}
		params = append(params, strings.TrimSpace(declaration(p, "")))
	}
	if len(params) == 0 {
		params = []string{"void"}
	}
	return declaration(f.ReturnType, name+"("+strings.Join(params, ", ")+")")
}
