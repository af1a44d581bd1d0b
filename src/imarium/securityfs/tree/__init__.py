"""The kernel's file interface to measurement lists, served from an engine: a tree of files, to be mounted by FUSE."""

from imarium.securityfs.tree.tree import ImaTree

__all__ = ["ImaTree"]
