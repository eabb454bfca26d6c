class Workspace: pass
