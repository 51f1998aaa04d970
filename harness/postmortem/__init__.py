"""A guest's memory after the fact: drgn on a dump, with what the kernel itself tells of its types and symbols."""
